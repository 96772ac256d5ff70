"""rft.losses on torch tensors, rft.check_loss on good and bad losses, `rft check losses`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

import rft
from rft import loss_check
from rft.bench import BenchOptions, check_losses


def batch(rows: int = 3, width: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logprobs = -torch.rand(rows, width, generator=generator, dtype=torch.float64)
    mask = torch.ones(rows, width, dtype=torch.float64)
    mask[1, 3:] = 0.0
    return {"logprobs": logprobs, "old_logprobs": logprobs + 0.4 * torch.randn(rows, width, generator=generator, dtype=torch.float64),
            "advantages": torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64), "mask": mask}


def run(name: str, given: dict[str, torch.Tensor], **knobs: object) -> tuple[float, torch.Tensor]:
    logprobs = given["logprobs"].detach().clone().requires_grad_(True)
    out = rft.losses.compute(name, **{**given, "logprobs": logprobs}, **knobs)
    out.loss.backward()
    assert logprobs.grad is not None
    return float(out.loss.detach()), logprobs.grad


def test_padded_rows_give_the_textbook_formula() -> None:
    given = batch()
    logprobs = given["logprobs"].clone().requires_grad_(True)
    ratio = (logprobs - given["old_logprobs"]).exp()
    advantages = given["advantages"][:, None]
    token = torch.maximum(-ratio * advantages, -ratio.clamp(0.8, 1.28) * advantages) * given["mask"]
    expected = token.sum() / given["mask"].sum()
    expected.backward()
    loss, gradient = run("trl.dapo", given)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-12)
    torch.testing.assert_close(gradient, logprobs.grad, rtol=1e-12, atol=1e-15)


def test_padded_packed_and_ragged_rows_agree() -> None:
    given = batch()
    padded, gradient = run("grpo", given)
    lengths = [5, 3, 5]
    ragged = {key: value if key == "advantages" else [row[:n] for row, n in zip(value, lengths, strict=True)]
              for key, value in given.items()}
    out = rft.losses.grpo(**ragged)
    packed = {key: value if key == "advantages" else torch.cat(value) for key, value in ragged.items()}
    again = rft.losses.grpo(**packed, row_offsets=[0, 5, 8, 13])
    assert float(out.loss) == pytest.approx(padded, rel=1e-12)
    assert float(again.loss) == float(out.loss)
    assert gradient[1, 3:].abs().sum() == 0.0


def test_half_precision_is_computed_in_float32_and_answered_in_half() -> None:
    given = batch()
    logprobs = given["logprobs"].bfloat16().requires_grad_(True)
    out = rft.losses.dapo(**{**given, "logprobs": logprobs})
    out.loss.backward()
    assert out.loss.dtype == torch.float32
    assert logprobs.grad is not None and logprobs.grad.dtype == torch.bfloat16


def test_entropy_bonus_sends_its_gradient_into_the_entropies() -> None:
    given = batch()
    entropy = torch.full((3, 5), 0.5, dtype=torch.float64, requires_grad=True)
    out = rft.losses.ppo(**given, entropy=entropy, entropy_coef=0.1)
    out.loss.backward()
    torch.testing.assert_close(entropy.grad, -0.1 * given["mask"] / given["mask"].sum())


def test_term_gradients_are_reported_on_request() -> None:
    given = batch()
    given["logprobs"].requires_grad_(True)
    out = rft.losses.ppo(**given, ref_logprobs=given["old_logprobs"], kl_coef=0.1, term_gradients=True)
    assert out.metrics["grad_sq_policy"] > 0.0 and out.metrics["grad_sq_kl"] > 0.0
    alone = rft.losses.ppo(**given)
    (gradient,) = torch.autograd.grad(alone.loss, given["logprobs"])
    assert out.metrics["grad_norm_policy"] == pytest.approx(float(gradient.norm()), rel=1e-9)
    assert out.metrics["masked_frac"] == pytest.approx(2 / 15)


def test_unknown_names_and_shapes_are_said() -> None:
    with pytest.raises(AttributeError, match="gspo-token"):
        rft.losses.grop
    with pytest.raises(rft.ConfigError, match="advantages: expected 15 values"):
        rft.losses.grpo(**{**batch(), "advantages": torch.ones(4)})
    assert "trl.dapo" in rft.losses.presets() and "cispo" in rft.losses.names()


@pytest.mark.parametrize("name", ["grpo", "gspo", "cispo", "sapo", "kl-cov", "vespo", "trl.dapo", "cross-entropy"])
def test_check_loss_finds_nothing_wrong_with_ours(name: str) -> None:
    report = rft.check_loss(name, quiet=True)
    broken = {one.name for one in report.findings if not one.ok}
    # Without a cap, TRL's ratio overflows in float32: that is what it computes.
    assert broken <= ({"extreme"} if name in {"trl.dapo", "kl-cov"} else set()), str(report)


def careful(logprobs, old_logprobs, advantages, mask):
    active = mask > 0
    log_ratio = torch.where(active, logprobs - old_logprobs, 0.0).clamp(-20, 20)
    advantages = torch.where(active, advantages, 0.0)
    held = log_ratio.detach().exp().clamp(max=4.0)
    return -(held * advantages * torch.where(active, logprobs, 0.0)).sum() / mask.sum().clamp(min=1)


def test_check_loss_accepts_a_careful_loss_with_stop_gradients(capsys: pytest.CaptureFixture[str]) -> None:
    report = rft.check_loss(careful)
    assert report.ok, str(report)
    assert "a mean over active tokens" in capsys.readouterr().out


def broken(change):
    def loss(logprobs, old_logprobs, advantages, mask):
        return change(logprobs, old_logprobs, advantages, mask)
    return loss


@pytest.mark.parametrize(("name", "loss"), [
    ("mask", broken(lambda lp, old, a, m: -((lp - old).exp() * a).mean())),
    ("nan", broken(lambda lp, old, a, m: -((lp - old).exp() * a * m).sum())),
    ("padding", broken(lambda lp, old, a, m: -(lp * a * m).mean())),
    ("order", broken(lambda lp, old, a, m: -(lp * a * m * torch.arange(lp.shape[0])[:, None]).sum())),
    ("split", broken(lambda lp, old, a, m: -(lp * a * m).sum() / m.sum() ** 2)),
    ("slope", broken(lambda lp, old, a, m: -((lp - old).exp() * a * m).sum() + (lp.data * m).sum())),
    ("extreme", broken(lambda lp, old, a, m: -((lp - old).exp() * a * m).sum())),
    ("empty", broken(lambda lp, old, a, m: -(lp * a * m).sum() / m.sum())),
])
def test_check_loss_says_what_is_broken(name: str, loss) -> None:
    report = rft.check_loss(loss, quiet=True)
    assert name in {one.name for one in report.findings if not one.ok}, str(report)
    assert loss_check.HINTS[name] in str(report)


def test_check_losses_asks_for_an_oracle() -> None:
    with pytest.raises(ValueError, match="--oracle"):
        list(check_losses.run(BenchOptions(), print))
    with pytest.raises(FileNotFoundError, match="no oracle there"):
        list(check_losses.run(BenchOptions(oracle=Path("nowhere.py")), print))


ORACLE = '''
import torch

PRESETS = {"tiny/reinforce": {"loss": "pg", "agg": "token-mean"}}


def preset_shapes(name):
    return SHAPES


def make_rows(rng, shape):
    return [{key: (-rng.random(3)).tolist() for key in ("logp", "old_logp", "rollout_logp", "ref_logp", "entropy")}
            | {"mask": [1.0, 0.0, 1.0], "adv": SIZE * float(rng.normal()), "group": 0} for _ in range(2)]


class Batch:
    def __init__(self, rows):
        self.rows, self.lens = rows, [len(one["logp"]) for one in rows]

    def ragged(self, values):
        return values


def loss_and_grad(batch, config):
    value = sum(-lp * m * one["adv"] for one in batch.rows for lp, m in zip(one["logp"], one["mask"])) / 4
    return SCALE * value, [[-SLOPE * m * one["adv"] / 4 for m in one["mask"]] for one in batch.rows], {}
'''


@pytest.mark.parametrize(("change", "passes"), [
    ({}, True), ({"SCALE": 1.01}, False), ({"SLOPE": 1.01}, False), ({"SIZE": 1e-12}, True), ({"SIZE": 1e-12, "SCALE": 1.01}, False),
    ({"SIZE": 1e-12, "SLOPE": 1.01}, False), ({"SHAPES": []}, False)])
def test_check_losses_compares_every_preset_of_the_oracle(tmp_path: Path, change: dict[str, Any], passes: bool) -> None:
    path = tmp_path / "oracle.py"
    path.write_text(ORACLE + "".join(f"{name} = {value}\n" for name, value in (
        {"SHAPES": ["plain"], "SCALE": 1.0, "SLOPE": 1.0, "SIZE": 1.0} | change).items()))
    rows = list(check_losses.run(BenchOptions(oracle=path, seed=3), lambda _: None))
    assert [row["name"] for row in rows] == ["loss/tiny/reinforce", "loss_f32/tiny/reinforce"]
    assert [row["passed"] for row in rows] == [passes, passes]


@pytest.mark.parametrize("target", ["reward", "advantage"])
def test_a_loss_refuses_a_kl_that_belongs_in_rewards_or_advantages(target: str) -> None:
    with pytest.raises(rft.ConfigError, match="losses.kl_target: reward and advantage are for runs.*use kl_target loss"):
        run("grpo", batch(), ref_logprobs=batch()["old_logprobs"], kl_coef=0.1, kl_target=target)
    run("grpo", batch(), kl_target=target)  # without a coefficient there is nothing to lose


@pytest.mark.parametrize(("given", "message"), [
    ({"advantage": [1.0, 1.0]}, "loss grpo: there is no argument 'advantage'; did you mean advantages\\?"),
    ({"old_logprob": torch.zeros(2, 5)}, "did you mean old_logprobs\\?"),
    ({"clip_hihg": 0.3}, "did you mean clip_high\\?"),
    ({"old_logprobs": torch.zeros(2, 3)}, r"old_logprobs: expected the shape of logprobs, \[2, 5\], got \[2, 3\]"),
    ({"mask": torch.zeros(5, 2)}, r"mask: expected the shape of logprobs, \[2, 5\], got \[5, 2\]"),
    ({"logprobs": torch.zeros(2, 5, 3)}, r"logprobs: expected a tensor \[B, T\].*got a tensor of shape \(2, 5, 3\)"),
    ({"logprobs": [1.0, 2.0]}, "logprobs: expected .*got float in a list"),
    ({"logprobs": []}, "logprobs: expected .*got an empty list"),
    ({"logprobs": torch.zeros(2, 5).numpy()}, "logprobs: expected .*got ndarray"),
    ({"logprobs": torch.zeros(10), "row_offsets": [0, 5, 11]}, r"row_offsets: must rise from 0 to the 10 tokens .*got \[0, 5, 11\]"),
    ({"logprobs": torch.zeros(10), "row_offsets": [0, 7, 5, 10]}, "row_offsets: must rise"),
])
def test_arguments_that_do_not_fit_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(rft.ConfigError, match=message):
        rft.losses.grpo(**{"logprobs": torch.zeros(2, 5), "advantages": [1.0, -1.0], **given})


def test_every_loss_has_a_name_a_signature_and_a_documentation() -> None:
    for name in ("grpo", "dr_grpo", "cross_entropy"):
        loss = getattr(rft.losses, name)
        assert loss.__name__ == name and "advantages: Rows" in str(inspect.signature(loss)).replace("'", "")
        assert "[B, T]" in loss.__doc__
