"""A run with a loss of the user's own in place of a registered one."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import rft


@rft.grader
def vowels(completion: str) -> float:
    """Share of some characters: differs between completions of random weights."""
    return sum(c in "aeiou1" for c in completion) / 8


def run(model: Path, folder: Path, loss: Any = None, **losses: Any) -> list[rft.StepReport]:
    """Two steps of two updates each."""
    folder.mkdir()
    data = folder / "train.jsonl"
    data.write_text("".join(json.dumps({"messages": [{"role": "user", "content": f"{i} + 1"}]}) + "\n" for i in range(8)))
    config = rft.RunConfig.from_json(json.dumps({
        "model": str(model), "seed": 1, "run_dir": str(folder / "run"), "data": {"train": str(data)}, "losses": losses,
        "rollout": {"prompts_per_step": 4, "group_size": 4, "max_tokens": 8},
        "trainer": {"steps": 2, "learning_rate": 0.01, "dtype": "fp32", "threads": 1, "updates_per_step": 2}}))
    with rft.Run(config, graders=[vowels], loss=loss) as made:
        return list(made)


def by_hand(logprobs: torch.Tensor, old_logprobs: torch.Tensor, ref_logprobs: torch.Tensor, advantages: torch.Tensor,
            mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """-r A + 0.1 k3, a mean over the step's tokens."""
    active = mask > 0
    ratio = torch.where(active, logprobs - old_logprobs, 0.0).clamp(-20, 20).exp()
    d = torch.where(active, ref_logprobs - logprobs, 0.0).clamp(-20, 20)
    return ((0.1 * (d.exp() - d - 1) - ratio * torch.where(active, advantages, 0.0)) * mask).sum(), mask.sum()


def through_rft(logprobs: torch.Tensor, old_logprobs: torch.Tensor, ref_logprobs: torch.Tensor, advantages: torch.Tensor,
                mask: torch.Tensor) -> Any:
    return rft.losses.importance_sampling(logprobs, old_logprobs=old_logprobs, ref_logprobs=ref_logprobs, advantages=advantages,
                                          mask=mask, kl_coef=0.1, log_ratio_cap=20.0)


@pytest.mark.parametrize("loss", [by_hand, through_rft])
def test_a_run_with_a_loss_of_ones_own_trains_what_the_registered_one_trains(loss: Any, llama_dir: Path, tmp_path: Path) -> None:
    want = run(llama_dir, tmp_path / "registered", name="importance-sampling", kl_coef=0.1, log_ratio_cap=20.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it keeps everything that check_loss checks
        got = run(llama_dir, tmp_path / "own", loss, kl_coef=0.1)
    assert [step.reward_mean for step in got] == [step.reward_mean for step in want]
    np.testing.assert_allclose([step.loss for step in got], [step.loss for step in want], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose([step.grad_norm for step in got], [step.grad_norm for step in want], rtol=1e-3)
    ours, theirs = (load_file(tmp_path / name / "run" / "model" / "model.safetensors") for name in ("own", "registered"))
    for name in theirs:
        torch.testing.assert_close(ours[name].float(), theirs[name].float(), atol=1e-3, rtol=1e-2, msg=name)


def test_a_kl_in_rewards_or_advantages_follows_its_estimator(llama_dir: Path, tmp_path: Path) -> None:
    for target in ("reward", "advantage"):
        losses = {}
        for estimator in (None, "k1", "k2"):
            knobs = {"kl_estimator": estimator} if estimator else {}
            steps = run(llama_dir, tmp_path / f"{target}-{estimator}", kl_coef=2.0, kl_target=target, **knobs)
            losses[estimator] = [step.loss for step in steps]
        assert losses[None] == losses["k1"] and losses["k1"][0] == losses["k2"][0]  # at first nothing has moved
        assert losses["k1"][1] != losses["k2"][1]


@pytest.mark.parametrize(("knobs", "key"), [({"kl_times_ratio": True}, "kl_times_ratio"), ({"kl_detached": True}, "kl_detached"),
                                            ({"kl_estimator": "k3+"}, "kl_estimator")])
def test_what_means_nothing_for_a_kl_in_the_reward_is_refused_before_the_run(llama_dir: Path, tmp_path: Path, knobs: dict[str, Any],
                                                                             key: str) -> None:
    with pytest.raises(rft.ConfigError, match=rf"losses\.{key}: .*kl_target reward"):
        run(llama_dir, tmp_path / "refused", kl_coef=0.1, kl_target="reward", **knobs)
    assert not (tmp_path / "refused" / "run").exists()


def test_what_the_loss_raises_comes_out_of_the_step(llama_dir: Path, tmp_path: Path) -> None:
    def angry(logprobs: list[torch.Tensor]) -> torch.Tensor:
        raise KeyError("no mood for it")

    with pytest.raises(KeyError, match="no mood for it"):
        run(llama_dir, tmp_path / "run", angry)


def test_a_loss_that_breaks_a_property_is_a_warning_before_the_run(llama_dir: Path, tmp_path: Path) -> None:
    def careless(logprobs: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
        return -(logprobs * advantages).mean()

    with pytest.warns(UserWarning, match=r"careless does not keep .*\n.*BROKEN mask"):
        run(llama_dir, tmp_path / "run", careless)


def test_knobs_that_only_registered_losses_read_are_refused_beside_a_loss_of_ones_own(llama_dir: Path, tmp_path: Path) -> None:
    for knobs, key in (({"aggregation": "token-mean"}, "aggregation"), ({"correction": {"cap": 2.0}}, "correction.cap")):
        with pytest.raises(rft.ConfigError, match=rf"losses\.{key}: is read by registered losses only"):
            run(llama_dir, tmp_path / key, by_hand, kl_coef=0.1, **knobs)
        assert not (tmp_path / key / "run").exists()
