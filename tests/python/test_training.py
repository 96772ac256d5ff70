"""The Trainer's verbs from Python, the custom loss, and SFT, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

import rft
from rft.codec import load_codec
from rft.fine_tune import load_trainer
from rft.sft import SftConfig, learning_rate_at, pack, read_conversations, sft, to_datum
from rft.tasks import arithmetic
from rft.training import with_autograd


def conversations(count: int) -> list[list[dict[str, str]]]:
    questions, _ = arithmetic.split(0, 100, 2)
    return [row["messages"] for row in arithmetic.sft_rows(0, count, questions, right=1.0)]


def test_a_torch_loss_gives_the_gradient_autograd_gives() -> None:
    loss, grads, metrics = with_autograd(lambda rows: (sum((row**2).sum() for row in rows), {"n": 2}))(
        [np.array([1.0, 2.0], np.float32), np.array([3.0], np.float32)])
    assert loss == 14.0 and metrics == {"n": 2.0}
    assert [grad.tolist() for grad in grads] == [[2.0, 4.0], [6.0]]


def test_a_row_the_loss_ignores_has_gradient_zero() -> None:
    _, grads, _ = with_autograd(lambda rows: rows[0].sum())([np.ones(2, np.float32), np.ones(3, np.float32)])
    assert grads[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("loss", [lambda rows: 1.0, lambda rows: rows[0], lambda rows: torch.tensor(1.0)])
def test_a_loss_that_is_no_scalar_of_the_logprobs_is_refused(loss: object) -> None:
    with pytest.raises(TypeError, match="scalar tensor|nothing to differentiate"):
        with_autograd(loss)([np.ones(2, np.float32)])  # type: ignore[arg-type]


def test_a_loss_that_names_columns_gets_them_padded_and_equals_the_registered_one(model_dir: Path) -> None:
    def mine(logprobs: torch.Tensor, old_logprobs: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ratio = torch.where(mask > 0, logprobs - old_logprobs, 0.0).clamp(-20, 20).exp()
        return -(ratio * torch.where(mask > 0, advantages, 0.0)).sum(), mask.sum()

    rng = np.random.default_rng(0)
    rows = [rng.integers(3, 60, n).tolist() for n in (9, 4)]
    datums = [rft.Datum(ids, [0.0, 0.0] + [1.0] * (len(ids) - 2), rng.normal(size=len(ids)), -rng.random(len(ids))) for ids in rows]
    model = rft.Model.load(str(model_dir), dtype="fp32")
    trainer, name = rft.Trainer(model), model.parameter_names()[-1]
    want = trainer.forward_backward(datums, loss="importance-sampling")
    expected = trainer.gradient(name)
    trainer.zero_grad()
    got = trainer.forward_backward_custom(datums, mine)
    np.testing.assert_allclose(trainer.gradient(name), expected, rtol=1e-4, atol=1e-6)
    assert got.loss_sum == pytest.approx(want.loss_sum, rel=1e-5) and got.metrics["denominator"] == 9.0
    with pytest.raises(ValueError, match=r"datums\[0\]\.ref_logprobs: is empty"):
        trainer.forward_backward_custom(datums, lambda logprobs, ref_logprobs: (logprobs - ref_logprobs).sum())
    assert rft.check_loss(mine, quiet=True)


def test_the_cross_entropy_mixed_in_takes_the_weights_of_the_datums(llama_dir: Path) -> None:
    model = rft.Model.load(str(llama_dir), dtype="fp32")
    trainer, name = rft.Trainer(model), model.parameter_names()[-1]
    ids, weights = [5, 6, 7, 8, 9], [0.0, 0.0, 0.5, 2.0, 0.0]
    mask, none = [0.0, 0.0, 1.0, 1.0, 1.0], [0.0] * 5
    trainer.forward_backward([rft.Datum(ids, weights)], loss="cross-entropy", aggregation="token-sum")
    expected = trainer.gradient(name)
    for given, advantages, sft_coef in ((weights, none, 1.0), ([4.0 * w for w in weights], none, 0.25)):
        trainer.zero_grad()
        datum = rft.Datum(ids, mask, advantages, sft_weights=given)
        trainer.forward_backward([datum], loss="reinforce", aggregation="token-sum", sft_coef=sft_coef)
        np.testing.assert_allclose(trainer.gradient(name), expected, rtol=1e-4, atol=1e-6)
    # Beside a datum that has weights, one without goes by its advantages: three active tokens of the two here.
    trainer.zero_grad()
    datums = [rft.Datum(ids, mask, none, sft_weights=weights), rft.Datum(ids, mask, [0.0, 0.0, 0.0, 0.0, 1e-9])]
    trainer.forward_backward(datums, loss="reinforce", aggregation="token-sum", sft_coef=1.0)
    mixed = trainer.gradient(name)
    trainer.zero_grad()
    trainer.forward_backward([rft.Datum(ids, weights), rft.Datum(ids, [0.0] * 4 + [1.0])], loss="cross-entropy", aggregation="token-sum")
    np.testing.assert_allclose(mixed, trainer.gradient(name), rtol=1e-4, atol=1e-6)


def test_a_trainer_refuses_a_kl_that_a_run_puts_into_rewards(llama_dir: Path) -> None:
    trainer = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32"))
    with pytest.raises(rft.ConfigError, match="losses.kl_target: reward and advantage are for runs"):
        trainer.forward_backward([rft.Datum([5, 6], [0.0, 1.0], [0.0, 1.0])], loss="grpo", kl_coef=0.1, kl_target="reward")


def test_masked_tokens_are_counted_from_the_first_trained_one_on(llama_dir: Path) -> None:
    trainer = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32"))
    rows = [rft.Datum([5, 6, 7, 8, 9], [0.0, 0.0, 1.0, 0.0, 1.0]), rft.Datum([5, 6], [0.0, 1.0])]
    assert trainer.forward_backward(rows, loss="cross-entropy").metrics["masked_frac"] == 0.25


def test_custom_cross_entropy_has_the_gradient_of_the_built_in_one(model_dir: Path) -> None:
    model = rft.Model.load(str(model_dir), dtype="fp32")
    codec = load_codec(model_dir)
    datums = [to_datum(codec, messages) for messages in conversations(3)]
    trainer = rft.Trainer(model)
    name = model.parameter_names()[-1]
    trainer.forward_backward(datums, loss="cross-entropy", aggregation="token-sum")
    expected = trainer.gradient(name)
    trainer.zero_grad()
    weights = [torch.tensor(np.array(datum.weights)) for datum in datums]
    trainer.forward_backward_custom(datums, lambda rows: -sum((row * w).sum() for row, w in zip(rows, weights, strict=True)))
    np.testing.assert_allclose(trainer.gradient(name), expected, rtol=1e-4, atol=1e-6)


def test_sft_lowers_the_loss(llama_dir: Path) -> None:
    trainer = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32"))
    losses: list[float] = []
    sft(trainer, load_codec(llama_dir), conversations(64), SftConfig(steps=20, rows_per_step=16, learning_rate=5e-3),
        lambda step: losses.append(step.loss))
    assert losses[-1] < 0.6 * losses[0]


def test_only_the_last_answer_and_the_end_token_have_weight(llama_dir: Path) -> None:
    codec = load_codec(llama_dir)
    messages = conversations(1)[0]
    datum = to_datum(codec, messages)
    trained = [int(i) for i, w in zip(datum.ids, datum.weights, strict=True) if w]
    assert codec.decode(trained) == messages[-1]["content"] and trained[-1] == codec.tokenizer.eos_token_id


def test_packing_keeps_the_order_and_the_budget() -> None:
    class Row:
        def __init__(self, length: int) -> None:
            self.ids = [0] * length

    calls = list(pack([Row(n) for n in (3, 4, 9, 1, 1)], 8))  # type: ignore[list-item]
    assert [[len(row.ids) for row in call] for call in calls] == [[3, 4], [9], [1, 1]]


def test_the_learning_rate_warms_up_and_decays() -> None:
    config = SftConfig(steps=100, warmup_steps=10, learning_rate=1.0, min_lr_ratio=0.1)
    rates = [learning_rate_at(config, step) for step in range(100)]
    assert rates[0] == 0.1 and rates[10] == 1.0 and rates[-1] < 0.11 and max(rates) == 1.0


def test_bad_conversations_are_all_reported(tmp_path: Path) -> None:
    path = tmp_path / "sft.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "hi"}]}\nnot json\n')
    with pytest.raises(ValueError, match=r"sft.jsonl:1: (?s:.)*sft.jsonl:2: "):
        read_conversations(path)


def test_a_device_that_is_not_there_is_refused(llama_dir: Path) -> None:
    with pytest.raises(rft.ConfigError, match="device: 'cuda:99': torch sees [0-9]+ such devices here"):
        rft.Model.load(str(llama_dir), device="cuda:99")
    with pytest.raises(rft.ConfigError, match="device: 'tpu' is no device; expected cpu, cuda"):
        rft.Model.load(str(llama_dir), device="tpu")
    config = {"model": str(llama_dir), "data": {"train": str(llama_dir)}, "trainer": {"device": "cuda:99"}}
    with pytest.raises(rft.ConfigError, match="torch sees [0-9]+ such devices here"):
        load_trainer(rft.RunConfig.from_json(json.dumps(config)))


@pytest.mark.parametrize(("verb", "arguments", "message"), [
    ("forward_backward", lambda row: (([row],), {"loss": print}), r"loss: is a function; forward_backward_custom"),
    ("forward_backward", lambda row: (([row],), {"loss": None}), r"loss: is None; expected a name of rft.losses.names"),
    ("forward_backward_custom", lambda row: (([row], "grpo"), {}), r"fn: is 'grpo', not a function"),
    ("optim_step", lambda row: ((), {"lr": 1e-5}), r"no argument 'lr'; did you mean learning_rate\? \(arguments: learning_rate, beta1"),
    ("optim_step", lambda row: ((), {"weight_deacy": 0.1}), r"did you mean weight_decay\?"),
    ("optim_step", lambda row: (("fast",), {}), r"learning_rate: is 'fast'; expected a number$"),
    ("forward_backward_preference", lambda row: (([row],), {"bta": 0.1}), r"did you mean beta\?"),
])
def test_a_call_that_fits_no_parameters_says_what_to_write(verb: str, arguments: Any, message: str, llama_dir: Path) -> None:
    args, kwargs = arguments(rft.Datum([1, 2, 3], [0.0, 1.0, 1.0]))
    with pytest.raises(TypeError, match=message):
        getattr(rft.Trainer(rft.Model.load(str(llama_dir))), verb)(*args, **kwargs)


@pytest.mark.parametrize(("call", "message"), [
    (lambda m: rft.Trainer(m, lr=1), r"^Trainer\(\): there is no argument 'lr'; optim_step\(learning_rate=\.\.\.\) takes it \(arg"),
    (lambda m: rft.Trainer(m, None, 64), r"^Trainer\(\): takes 2 arguments by position \(model, adapter\), got 3; the others by name: token_b"),
    (lambda m: rft.Trainer("models/S"), r"^Trainer\(\): model: is 'models/S'; expected an rft.Model \(rft.Model.load\(folder\)\)$"),
    (lambda m: rft.Trainer(), r"^Trainer\(\): model: is missing; an rft.Model"),
    (lambda m: rft.Trainer(m, token_bugdet=1), r"did you mean token_budget\?"),
    (lambda m: rft.Datum([1, 2]), r"^Datum\(\): weights: is missing; a number for each token"),
    (lambda m: rft.Datum(), r"^Datum\(\): ids: is missing; a list of token ids$"),
    (lambda m: rft.Datum([1], ids=[1]), r"^Datum\(\): ids: is given twice$"),
    (lambda m: rft.Datum([1], [0.0], prefix_id="a"), r"^Datum\(\): prefix_id: is 'a'; expected a whole number$"),
    (lambda m: setattr(rft.Datum([1], [0.0]), "prefix_length", 1.5), r"^Datum.prefix_length: is 1.5; expected a whole number$"),
    (lambda m: rft.Engine(m, max_batch=2.5), r"^Engine\(\): max_batch: is 2.5; expected a whole number$"),
    (lambda m: rft.Engine(m).generate([[3]], seed=-1), r"^generate\(\): seed: is -1; expected a whole number of at least 0$"),
    (lambda m: rft.Adapter(m, seed=-1), r"^Adapter\(\): seed: is -1; expected a whole number of at least 0$"),
    (lambda m: rft.Adapter(m, targets="q_proj"), r"^Adapter\(\): targets: is 'q_proj'; expected a list with a text each$"),
    (lambda m: rft.Model.load(3), r"^Model.load\(\): dir: is 3; expected a path$"),
    (lambda m: rft.Model.load("x", threads="all"), r"^Model.load\(\): threads: is 'all'; expected a whole number$"),
    (lambda m: m.save("x", device="cpu"), r"^save\(\): there is no argument 'device' \(arguments: dir, dtype\)$"),
    (lambda m: rft.Trainer(m).zero_grad(1), r"^zero_grad\(\): takes no arguments, got 1$"),
    (lambda m: rft.compute_advantages(1.0), r"^compute_advantages\(\): rewards: is 1.0; expected a list$"),
    (lambda m: rft.read_dataset(3), r"^read_dataset\(\): path: is 3; expected a path$"),
    (lambda m: rft.grade_rows([], [1], [""]), r"^grade_rows\(\): rows_json: is \[1\]; expected a list with a text each$"),
    (lambda m: rft.set_threads(None), r"^set_threads\(\): threads: is None; expected a whole number$"),
])
def test_no_call_prints_a_signature(call: Any, message: str, llama_dir: Path) -> None:
    with pytest.raises(TypeError, match=message):
        call(rft.Model.load(llama_dir))


def test_the_verbs_keep_their_documentation() -> None:
    for verb in ("forward", "forward_backward", "optim_step", "describe"):
        assert len(getattr(rft.Trainer, verb).__doc__) > 100


def test_a_state_keeps_where_the_data_loop_was(llama_dir: Path, tmp_path: Path) -> None:
    trainer = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32", threads=1))
    trainer.save_state(tmp_path, cursor={"epoch": 2, "row": 17})
    assert trainer.load_state(tmp_path) == {"epoch": 2, "row": 17}
    trainer.save_state(tmp_path)
    assert trainer.load_state(tmp_path) is None


def test_weights_for_a_sampler_are_a_model_or_an_adapter(llama_dir: Path, tmp_path: Path) -> None:
    model = rft.Model.load(str(llama_dir), dtype="fp32", threads=1)
    adapter = rft.Adapter(model, rank=2)
    trainer = rft.Trainer(model, adapter)
    assert (trainer.save_weights_for_sampler(tmp_path / "delta", "delta") / "adapter_model.safetensors").is_file()
    assert rft.Model.load(str(trainer.save_weights_for_sampler(tmp_path / "base")), dtype="fp32").vocab_size == model.vocab_size


def test_a_state_in_shards_is_the_state(llama_dir: Path, tmp_path: Path) -> None:
    trainer = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32", threads=1))
    rows = [rft.Datum([5, 17, 3, 40, 22, 9], [0.0, 1.0, 1.0, 1.0, 1.0, 1.0])]

    def step() -> float:
        result = trainer.forward_backward(rows, loss="cross-entropy")
        trainer.optim_step(learning_rate=0.01)
        return result.loss_sum

    step()
    trainer.save_state(tmp_path)
    want = [step(), step()]
    file = tmp_path / "trainer.safetensors"
    with safe_open(file, "np") as tensors:
        metadata, whole = tensors.metadata(), {name: tensors.get_tensor(name).ravel() for name in tensors.keys()}  # noqa: SIM118
    shards = {f"{name}[{begin}:{begin + len(part)}]": part for name, values in whole.items()
              for begin, part in ((0, values[:len(values) // 3]), (len(values) // 3, values[len(values) // 3:]))}
    save_file(shards, file, metadata)
    trainer.load_state(tmp_path)
    assert [step(), step()] == want
    save_file(dict(list(shards.items())[1:]), file, metadata)
    with pytest.raises(rft.ConfigError, match="its ranges don't cover its"):
        trainer.load_state(tmp_path)


@pytest.mark.parametrize("state", ["fp32", "int8"])
def test_a_state_saved_in_shards_is_read_by_any_trainer(llama_dir: Path, tmp_path: Path, state: str) -> None:
    def make() -> rft.Trainer:
        return rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32", threads=1), optimizer_state=state)

    def step(trainer: rft.Trainer) -> float:
        result = trainer.forward_backward([rft.Datum([5, 17, 3, 40, 22, 9], [0.0] + [1.0] * 5)], loss="cross-entropy")
        trainer.optim_step(learning_rate=0.01)
        return result.loss_sum

    first, second = make(), make()
    step(first)
    first.save_state(tmp_path)
    for i in range(3):
        first.save_state(tmp_path, cursor={"row": 7}, shard=(i, 3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cursor.json", *(f"trainer-{i:05}-of-00003.safetensors" for i in (1, 2, 3))]
    with safe_open(tmp_path / "trainer-00002-of-00003.safetensors", "np") as file:
        assert "adam_m.model.norm.weight[21:42]" in file.keys()  # noqa: SIM118
    assert second.load_state(tmp_path) == {"row": 7} and second.num_steps == 1
    assert [step(second) for _ in range(3)] == [step(first) for _ in range(3)]
    (tmp_path / "trainer-00002-of-00003.safetensors").unlink()
    with pytest.raises(rft.NotFoundError, match="trainer-00002-of-00003.safetensors: is missing; the state was saved in 3 shards"):
        second.load_state(tmp_path)
    with pytest.raises(rft.ConfigError, match="shard 3 of 3"):
        first.save_state(tmp_path, shard=(3, 3))


@pytest.mark.parametrize("targets", [[], ["all", "embed_tokens", "lm_head"]], ids=["full", "lora"])
def test_sample_is_of_the_weights_as_they_are_now(llama_dir: Path, targets: list[str]) -> None:
    model = rft.Model.load(str(llama_dir), dtype="bf16")
    trainer = rft.Trainer(model, rft.Adapter(model, rank=2, targets=targets) if targets else None)
    prompt = [5, 17, 3]
    for _ in range(2):
        [[sample]] = trainer.sample([prompt], max_tokens=8, ignore_eos=True)
        datum = rft.Datum([*prompt, *sample.ids.tolist()], [0.0] * 3 + [1.0] * 8)
        assert trainer.forward([datum])[0][3:].tolist() == sample.logprobs.tolist()
        trainer.forward_backward([datum], loss="cross-entropy")
        trainer.optim_step(learning_rate=0.01)


def test_a_delta_of_a_whole_model_is_small_and_loads_as_the_model_does(model_dir: Path, tmp_path: Path) -> None:
    trainer = rft.Trainer(rft.Model.load(str(model_dir), dtype="bf16"))
    trainer.forward_backward([rft.Datum([5, 17, 3, 40, 22, 9], [0.0, 1.0, 1.0, 1.0, 1.0, 1.0])], loss="cross-entropy")
    trainer.optim_step(learning_rate=3e-6)
    delta, base = trainer.save_weights_for_sampler(tmp_path / "delta", "delta"), trainer.save_weights_for_sampler(tmp_path / "base")
    small, whole = (folder / f"{name}.safetensors" for folder, name in ((delta, "delta"), (base, "model")))
    assert 0 < small.stat().st_size < 0.5 * whole.stat().st_size
    again = trainer.save_weights_for_sampler(tmp_path / "again", "delta")
    loaded, want = rft.Model.load(str(again), dtype="fp32"), rft.Model.load(str(base), dtype="fp32")
    for name in want.parameter_names():
        np.testing.assert_array_equal(loaded.parameter(name), want.parameter(name), err_msg=name)
    assert load_codec(delta).encode("1 + 1") == load_codec(model_dir).encode("1 + 1")
    damaged = bytearray(small.read_bytes())
    damaged[-1] ^= 1
    small.write_bytes(bytes(damaged))
    with pytest.raises(rft.DataLossError, match="another base, or a damaged file"):
        rft.Model.load(str(delta))
    with pytest.raises(rft.StateError, match="came from no folder"):
        rft.Trainer(rft.Model.create((model_dir / "config.json").read_text())).save_weights_for_sampler(tmp_path / "none", "delta")


def test_clients_of_models_and_adapters_side_by_side_get_what_each_gets_alone(llama_dir: Path) -> None:
    row = rft.Datum([5, 17, 3, 40, 22, 9], [0.0, 1.0, 1.0, 1.0, 1.0, 1.0])

    def clients() -> list[rft.Trainer]:
        base = rft.Model.load(str(llama_dir), dtype="fp32", threads=1)
        return [rft.Trainer(base, rft.Adapter(base, rank=2, seed=1)), rft.Trainer(base, rft.Adapter(base, rank=4, seed=2)),
                rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32", threads=1))]

    alone = []
    for trainer in clients():
        for _ in range(3):
            trainer.forward_backward([row], loss="cross-entropy")
            trainer.optim_step(learning_rate=0.01)
        alone.append(trainer.forward([row])[0])
    together = clients()
    for _ in range(3):
        for verb, arguments in (("forward_backward", ([row], "cross-entropy")), ("optim_step", (0.01,))):
            for future in [trainer.submit(verb, *arguments) for trainer in together]:
                future.result()
    for trainer, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(trainer.forward([row])[0], expected)
