"""`rft sft run.yaml` and `rft dpo run.yaml`: rows to tokens, preference losses against TRL's, best checkpoint, early stop, resume."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import rft
from rft.codec import load_codec
from rft.conversations import check_conversation, parse_pair, read_rows, to_datums
from rft.fine_tune import FineTune

TURNS = [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "2", "weight": 0},
         {"role": "user", "content": "2 + 2"}, {"role": "assistant", "content": "4"}]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# --- Rows to tokens ------------------------------------------------------------------------------------------------------
def trained_text(datum: rft.Datum, codec: Any) -> str:
    return codec.decode([int(i) for i, w in zip(datum.ids, datum.weights, strict=True) if w])


def test_each_answer_is_trained_by_its_own_weight(llama_dir: Path) -> None:
    codec = load_codec(llama_dir)
    [datum] = to_datums(codec, check_conversation({"messages": TURNS}))
    assert trained_text(datum, codec) == "4"
    [both] = to_datums(codec, {"messages": [{k: v for k, v in turn.items() if k != "weight"} for turn in TURNS]})
    assert trained_text(both, codec) == "24"
    trained = [int(i) for i, w in zip(both.ids, both.weights, strict=True) if w]
    assert sum(token in codec.end_ids for token in trained) == 2  # each answer with the token that ends it
    assert codec.tokenizer.decode(both.ids) == codec.tokenizer.apply_chat_template(TURNS, tokenize=False).rstrip("\n")
    [last] = to_datums(codec, {"messages": [*TURNS[:1], {"role": "assistant", "content": "2"}, *TURNS[2:]]}, "last")
    assert trained_text(last, codec) == "4"
    assert list(both.ids) == list(last.ids) == list(datum.ids)


def test_what_is_trained_continues_the_prompt_that_sampling_sees(llama_dir: Path) -> None:
    codec = load_codec(llama_dir)
    [datum] = to_datums(codec, {"messages": TURNS[:1] + [{"role": "assistant", "content": "2"}]})
    prompt = codec.encode_chat(TURNS[:1])
    assert datum.ids[:len(prompt)].tolist() == prompt and not datum.weights[:len(prompt)].any()


def test_tool_calls_reach_the_template_as_objects(llama_dir: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(llama_dir, tmp_path / "m")
    (tmp_path / "m" / "chat_template.jinja").write_text(
        "{% if tools %}<|im_start|>tools {{ tools[0].function.name }}<|im_end|>{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}"
        "\n{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}:{{ c.function.arguments.a }}{% endfor %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
    codec = load_codec(tmp_path / "m")
    call = {"type": "function", "id": "1", "function": {"name": "add", "arguments": "{\"a\": 7}"}}
    row = {"messages": [TURNS[0], {"role": "assistant", "content": None, "tool_calls": [call]},
                        {"role": "tool", "content": "8", "tool_call_id": "1"}, {"role": "assistant", "content": "8"}],
           "tools": [{"type": "function", "function": {"name": "add"}}]}
    [datum] = to_datums(codec, check_conversation(row))
    assert trained_text(datum, codec) == "add:78"
    assert "tools add" in codec.tokenizer.decode(datum.ids)


def test_content_in_parts_is_its_text_and_what_would_be_lost_is_refused(llama_dir: Path) -> None:
    codec = load_codec(llama_dir)
    parts = [{"type": "text", "text": "1 +"}, {"type": "text", "text": " 1"}]
    answer = {"role": "assistant", "content": "2"}
    [datum], [plain] = (to_datums(codec, {"messages": [{"role": "user", "content": content}, answer]}) for content in (parts, "1 + 1"))
    assert list(datum.ids) == list(plain.ids)
    call = {"type": "function", "id": "1", "function": {"name": "addition", "arguments": "{}"}}
    for messages, words in [
            ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, answer], "parts of text only, got 'image_url'"),
            ([TURNS[0], {"role": "assistant", "content": None, "function_call": {"name": "f"}}], "write tool_calls"),
            ([TURNS[0], {"role": "assistant", "content": None, "tool_calls": [call]}], "messages.1.tool_calls: the model's chat template")]:
        with pytest.raises(ValueError, match=words):
            to_datums(codec, {"messages": messages})


def test_bad_rows_are_all_reported_with_their_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{"messages": TURNS[:1]}, {"nothing": 1}, {"messages": TURNS},
                                        {"messages": [{**TURNS[0], "weight": 2}, TURNS[3]]}])
    with pytest.raises(ValueError, match=r"x.jsonl:1: .*assistant(?s:.)*x.jsonl:2: 'messages' is missing(?s:.)*x.jsonl:4: messages.0.weight"):
        read_rows(path, check_conversation)
    pair = {"input": {"messages": TURNS[:1]}, "preferred_output": [TURNS[3]], "non_preferred_output": [TURNS[1]]}
    assert parse_pair(pair)[:3] == (TURNS[:1], [TURNS[3]], [TURNS[1]])


def test_a_unicode_line_separator_is_part_of_its_row(tmp_path: Path) -> None:
    text = "one\u2028two\x85three"
    (tmp_path / "x.jsonl").write_text(json.dumps({"messages": [{"role": "assistant", "content": text}]}, ensure_ascii=False) + "\n")
    [row] = read_rows(tmp_path / "x.jsonl", check_conversation)
    assert row["messages"][0]["content"] == text


def test_twenty_bad_lines_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{"nothing": 1}] * 23)
    with pytest.raises(ValueError, match=r"x.jsonl:20: 'messages' is missing\n\.\.\. and 3 more bad lines$"):
        read_rows(path, check_conversation)


@pytest.mark.parametrize("kind", ["sft", "dpo", "distill"])
def test_a_used_folder_and_bad_lines_are_said_before_a_model_is_loaded(tmp_path: Path, kind: str) -> None:
    train, heldout = (write(tmp_path / name, [{"nothing": 1}]) for name in ("train.jsonl", "heldout.jsonl"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    for folder, message in [("run", "run_dir: .* holds something already"), ("other", r"(?s)train.jsonl:1: 'messages'.*heldout.jsonl:1: ")]:
        config = {"model": str(tmp_path), "run_dir": str(tmp_path / folder), "data": {"train": str(train), "heldout": str(heldout)},
                  "distill": {"teachers": [str(tmp_path)]}}
        with pytest.raises((ValueError, FileExistsError), match=message):
            FineTune(rft.RunConfig.from_json(json.dumps(config)), kind)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", ["sft", "dpo", "distill"])
def test_a_row_that_is_longer_than_the_context_is_named_before_anything_is_trained(llama_dir: Path, tmp_path: Path, kind: str) -> None:
    asked = [{"messages": [{"role": "user", "content": "1 + 1 " * n}]} for n in (1, 2000)]
    answered = [{"messages": [*row["messages"], {"role": "assistant", "content": "2"}]} for row in asked]
    rows = {"sft": answered, "dpo": [{**row, "chosen": "2", "rejected": "3"} for row in asked], "distill": asked}[kind]
    config = {"model": str(llama_dir), "run_dir": str(tmp_path / "run"), "data": {"train": str(write(tmp_path / "x.jsonl", rows))},
              "distill": {"teachers": [str(llama_dir)]}}
    with pytest.raises(ValueError, match=r"^\S*x.jsonl:2: \d+ tokens .*more than the model's context of"):
        FineTune(rft.RunConfig.from_json(json.dumps(config)), kind)


# --- Preference losses ---------------------------------------------------------------------------------------------------
def sums(rows: list[torch.Tensor], datums: list[rft.Datum]) -> torch.Tensor:
    return torch.stack([(row * torch.tensor(np.array(d.weights))).sum() for row, d in zip(rows, datums, strict=True)])


def expected(loss: str, logps: torch.Tensor, reference: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Sum over pairs (rows for kto), as in TRL."""
    ratios = logps - reference
    if loss == "dpo":  # dpo_trainer.py, loss_type "sigmoid"
        return -F.logsigmoid(0.1 * (ratios[0::2] - ratios[1::2])).sum()
    if loss == "ipo":  # dpo_trainer.py, loss_type "ipo"
        mean = ratios / tokens
        return ((mean[0::2] - mean[1::2] - 1 / (2 * 0.1)) ** 2).sum()
    if loss == "kto":  # kto_trainer.py, loss_type "kto"
        return (1 - torch.sigmoid(0.1 * (ratios[0::2] - 0.3))).sum() + (1 - torch.sigmoid(0.1 * (0.3 - ratios[1::2]))).sum()
    mean = logps / tokens
    chosen, rejected = mean[0::2], mean[1::2]
    if loss == "simpo":  # cpo_trainer.py, cpo_loss with loss_type "simpo"
        return -F.logsigmoid(2.0 * (chosen - rejected) - 1.0).sum()
    # orpo_trainer.py, odds_ratio_loss, and the negative log-likelihood of the chosen completions
    log_odds = (chosen - rejected) - (torch.log(-torch.expm1(chosen)) - torch.log(-torch.expm1(rejected)))
    return -0.1 * F.logsigmoid(log_odds).sum() - chosen.sum()


@pytest.mark.parametrize("loss", ["simpo", "orpo"])
def test_the_formulas_of_the_next_test_give_what_trls_functions_gave(loss: str) -> None:
    golden = json.loads((Path(__file__).parent.parent / "oracles" / "preference_golden.json").read_text())[loss]
    logps = torch.tensor(golden["logps"], dtype=torch.float64, requires_grad=True)
    value = expected(loss, logps, torch.zeros_like(logps), torch.tensor(golden["tokens"], dtype=torch.float64))
    value.backward()
    assert value.item() == pytest.approx(golden["loss"], rel=1e-6)  # TRL's odds ratio is float32
    np.testing.assert_allclose(logps.grad.numpy(), golden["gradient"], rtol=1e-5)


@pytest.mark.parametrize("loss", ["dpo", "ipo", "simpo", "orpo", "kto"])
@pytest.mark.parametrize("budget", [20, 10000])
def test_a_preference_loss_has_the_value_and_the_gradient_of_trls(llama_dir: Path, loss: str, budget: int) -> None:
    model = rft.Model.load(str(llama_dir), dtype="fp32", threads=1)
    trainer = rft.Trainer(model, token_budget=budget)
    random = np.random.default_rng(1)
    datums = []
    for pair in range(3):
        prompt = random.integers(3, 200, 5).tolist()
        for side in range(2):
            answer = random.integers(3, 200, 3 + pair + side).tolist()
            n = len(answer)
            datums.append(rft.Datum([*prompt, *answer], [0.0] * 5 + [1.0] * n, [1.0 - 2 * side] * (5 + n),
                                    ref_logprobs=random.normal(-5.0, 1.0, 5 + n).tolist(), prefix_id=pair, prefix_length=5))
    reference = torch.tensor([float((np.array(d.ref_logprobs) * d.weights).sum()) for d in datums])
    tokens = torch.tensor([float((np.array(d.weights) != 0).sum()) for d in datums])
    name = "model.layers.0.self_attn.q_proj.weight"
    want = trainer.forward_backward_custom(datums, lambda rows: expected(loss, sums(rows, datums), reference, tokens))
    gradient = trainer.gradient(name)
    trainer.zero_grad()
    got = trainer.forward_backward_preference(datums, loss, kl=0.3)
    assert got.loss_sum == pytest.approx(want.loss_sum, rel=1e-5)
    np.testing.assert_allclose(trainer.gradient(name), gradient, atol=2e-5 * np.abs(gradient).max())
    only = trainer.forward_backward_preference(datums, loss, kl=0.3, gradient=False)
    assert only.loss_sum == got.loss_sum and only.metrics == got.metrics
    np.testing.assert_array_equal(trainer.gradient(name), trainer.gradient(name))


def test_a_preference_loss_names_what_is_missing(llama_dir: Path) -> None:
    trainer = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32"))
    row = rft.Datum([1, 2, 3], [0.0, 1.0, 1.0])
    for datums, loss, words in [([row], "simpo", "odd"), ([row, row], "dpo", r"datums\[0\].ref_logprobs"),
                                ([row, row], "kto", "ref_logprobs"), ([row, row], "dpoo", "known: dpo")]:
        with pytest.raises(rft.Error, match=words):
            trainer.forward_backward_preference(datums, loss)


def test_describe_gives_the_entropies_and_top_tokens_of_transformers(model_dir: Path) -> None:
    from transformers import AutoModelForCausalLM

    ids = [5, 17, 3, 40, 22, 9]
    trainer = rft.Trainer(rft.Model.load(str(model_dir), dtype="fp32"))
    logprobs, entropies, top_ids, top = trainer.describe([rft.Datum(ids, [0.0] + [1.0] * 5)], top_k=3)
    theirs = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    values, indices = theirs.topk(3)
    np.testing.assert_array_equal(top_ids[0][1:], indices.numpy())
    np.testing.assert_allclose(top[0][1:], values.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(entropies[0][1:], -(theirs.exp() * theirs).sum(-1).detach().numpy(), atol=1e-5)
    assert (top_ids[0][0] == -1).all() and logprobs[0].tolist() == trainer.forward([rft.Datum(ids, [0.0] + [1.0] * 5)])[0].tolist()


# --- Runs ----------------------------------------------------------------------------------------------------------------
def sft_config(llama_dir: Path, folder: Path, run: str, **overrides: Any) -> rft.RunConfig:
    rows = [{"messages": [{"role": "user", "content": f"{i} + {j}"}, {"role": "assistant", "content": str(i + j)}]}
            for i in range(4) for j in range(4)]
    config = {"model": str(llama_dir), "seed": 3, "run_dir": str(folder / run),
              "data": {"train": str(write(folder / "t.jsonl", rows[:12])), "heldout": str(write(folder / "h.jsonl", rows[12:]))},
              "trainer": {"steps": 20, "learning_rate": 0.01, "dtype": "fp32", "threads": 1, "schedule": "wsd", "warmup_steps": 2},
              "sft": {"rows_per_step": 4}, "eval": {"every": 5}, "checkpoint": {"every": 1}, **overrides}
    return rft.RunConfig.from_json(json.dumps(config))


def states(tune: FineTune) -> bytes:
    tune.save()
    return (tune.dir / "state" / "trainer.safetensors").read_bytes()


def test_a_run_stopped_after_any_step_goes_on_bit_for_bit(llama_dir: Path, tmp_path: Path) -> None:
    whole = FineTune(sft_config(llama_dir, tmp_path, "whole"), "sft")
    trace = []
    while (metrics := whole.step()) is not None:
        trace.append(metrics["loss"])
    end = states(whole)
    assert len(trace) == 20 and trace[-1] < 0.7 * trace[0]
    config = sft_config(llama_dir, tmp_path, "parts")
    resumed: list[float] = []
    for step in range(20):  # a new process would do what a new object does: nothing but the folder is carried over
        part = FineTune(config, "sft", resume=None if step == 0 else tmp_path / "parts")
        assert part.step_index == step
        metrics = part.step()
        assert metrics is not None
        resumed.append(metrics["loss"])
        if step == 19:
            assert states(part) == end
    assert resumed == trace
    assert [json.loads(line)["loss"] for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()] == trace


def test_the_command_says_what_memory_is_for_before_the_first_step(llama_dir: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from rft.cli import app

    (tmp_path / "run.json").write_text(sft_config(llama_dir, tmp_path, "run").to_json())
    result = CliRunner().invoke(app, ["sft", str(tmp_path / "run.json"), "--set", "trainer.steps=2"])
    assert result.exit_code == 0, result.output
    assert 0 < result.output.index("memory: ") < result.output.index("gradients") < result.output.index("step 1/2")


def test_datasets_are_read_once_and_a_folder_gets_its_name_when_it_is_whole(
        llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, read = sft_config(llama_dir, tmp_path, "run"), []
    read_text = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *args, **kwargs: (read.append(path.name), read_text(path, *args, **kwargs))[1])
    tune = FineTune(config, "sft")
    assert [name for name in read if name.endswith(".jsonl")] == ["t.jsonl", "h.jsonl"]
    written: list[Path] = []
    tune._replace("model", written.append)
    assert written == [tune.dir / "model.tmp"] and (tune.dir / "model").is_dir()  # the name that the export's check knows


def test_the_best_weights_are_kept_and_patience_ends_the_run(llama_dir: Path, tmp_path: Path) -> None:
    config = sft_config(llama_dir, tmp_path, "run", eval={"every": 1}, stop={"patience": 2}, checkpoint={"every": 0},
                        trainer={"steps": 60, "learning_rate": 0.05, "dtype": "fp32", "threads": 1})
    tune = FineTune(config, "sft")
    losses = []
    while (metrics := tune.step()) is not None:
        losses.append(metrics["heldout/loss"])
    summary = tune.finish()
    assert "has not improved in 2 evaluations" in summary["stop_reason"]
    assert summary["best_loss"] == min(losses) and summary["best_step"] == losses.index(min(losses)) + 1 == len(losses) - 2
    saved = FineTune(rft.RunConfig.from_json(config.to_json(), [f"model={tmp_path / 'run' / 'model'}", f"run_dir={tmp_path / 'again'}"]), "sft")
    assert saved.objective.evaluate(saved.heldout)["loss"] == pytest.approx(min(losses), rel=0.05)  # the folder is bf16


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_preference_tuning_resumes_bit_for_bit_keeps_its_best_weights_and_stops(llama_dir: Path, tmp_path: Path, loss: str) -> None:
    def tuned(run: str, resume: bool = False) -> FineTune:
        rows = {part: [{"messages": [{"role": "user", "content": f"{i} + 1"}], "chosen": good, "rejected": bad} for i in range(8)]
                for part, good, bad in (("train", "yes", "no"), ("heldout", "no", "yes"))}  # what is learned is held to be wrong
        if loss == "kto":
            rows = {part: [{"messages": row["messages"], "completion": row[side], "label": side == "chosen"}
                           for row in some for side in ("chosen", "rejected")] for part, some in rows.items()}
        return FineTune(rft.RunConfig.from_json(json.dumps({
            "model": str(llama_dir), "run_dir": str(tmp_path / run), "eval": {"every": 1}, "stop": {"patience": 3}, "checkpoint": {"every": 1},
            "data": {part: str(write(tmp_path / f"{part}.jsonl", some)) for part, some in rows.items()},
            "preference": {"loss": loss, "rows_per_step": 8, "beta": 0.5},
            "trainer": {"steps": 30, "learning_rate": 0.003, "dtype": "fp32", "threads": 1}})), "dpo", tmp_path / run if resume else None)

    whole, losses = tuned("whole"), []
    while (metrics := whole.step()) is not None:
        losses.append(metrics["heldout/loss"])
    assert losses == sorted(losses) and len(losses) == 4 and "in 3 evaluations" in whole.stop_reason
    end = states(whole)
    tuned("parts").step()
    for _ in range(3):
        part = tuned("parts", resume=True)
        part.step()
    assert part.step_index == 4 and part.stop_reason == whole.stop_reason and states(part) == end
    summary = part.finish()
    assert summary["best_step"] == 1 and summary["best_loss"] == losses[0]
    assert part.objective.evaluate(part.heldout)["loss"] == losses[0]


@pytest.mark.parametrize(("loss", "lora"), [("dpo", 4), ("simpo", 0), ("kto", 4)])
def test_preference_tuning_learns_the_preference(llama_dir: Path, tmp_path: Path, loss: str, lora: int) -> None:
    prompt = [{"role": "user", "content": "1 + 1"}]
    pairs = [{"messages": [{"role": "user", "content": f"{i} + 1"}], "chosen": str(i + 1), "rejected": "no"} for i in range(8)]
    rows: list[dict[str, Any]] = pairs
    if loss == "kto":
        rows = [{"messages": p["messages"], "completion": p[side], "label": side == "chosen"} for p in pairs for side in ("chosen", "rejected")]
    config = rft.RunConfig.from_json(json.dumps({
        "model": str(llama_dir), "run_dir": str(tmp_path / "run"), "data": {"train": str(write(tmp_path / "p.jsonl", rows))},
        "lora": {"rank": lora}, "preference": {"loss": loss, "rows_per_step": 8, "beta": 0.5},
        "trainer": {"steps": 12, "learning_rate": 0.01, "dtype": "fp32", "threads": 1}}))
    tune = FineTune(config, "dpo")
    first = tune.step()
    while (metrics := tune.step()) is not None:
        last = metrics
    assert first is not None and last["loss"] < (0.92 if loss == "kto" else 0.7) * first["loss"]
    assert loss == "kto" or last["accuracy"] == 1.0
    summary = tune.finish()
    assert summary["steps"] == 12 and (tune.dir / "model" / "model.safetensors").is_file()
    assert (tune.dir / "adapter").is_dir() == (lora > 0) and prompt


@pytest.mark.parametrize("lora", [0, 2])
def test_a_flipped_tensor_makes_the_export_fail(llama_dir: Path, tmp_path: Path, lora: int) -> None:
    from safetensors.torch import load_file, save_file

    tune = FineTune(sft_config(llama_dir, tmp_path, "run", lora={"rank": lora}), "sft")
    while tune.step() is not None:
        pass
    summary = tune.finish()
    assert summary["export_difference"] < 0.02
    card = (tune.dir / "model" / "README.md").read_text()
    assert hashlib.sha256((tmp_path / "t.jsonl").read_bytes()).hexdigest() in card and '"steps": 20' in card
    weights = tune.dir / "model" / "model.safetensors"
    tensors = load_file(weights)
    name = "model.layers.1.mlp.down_proj.weight"
    tensors[name] = -tensors[name]
    save_file(tensors, weights, {"format": "pt"})
    datums = [datum for row in tune.heldout for datum in row]
    with pytest.raises(rft.DataLossError, match=name):
        tune.trainer.check_export(str(tune.dir / "model"), datums)


def test_calls_can_be_awaited(llama_dir: Path) -> None:
    import asyncio

    trainer = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32"))
    row = rft.Datum([1, 2, 3], [0.0, 1.0, 1.0])

    async def client() -> tuple[Any, Any]:
        backward = trainer.submit("forward_backward", [row], loss="cross-entropy")
        step = trainer.submit("optim_step", learning_rate=1e-3)  # in the order submitted
        return await asyncio.wrap_future(backward), await asyncio.wrap_future(step)

    result, done = asyncio.run(client())
    assert result.num_tokens == 2 and done.version == 2
    failing: Callable[[], Any] = lambda: trainer.submit("optim_step").result()  # noqa: E731
    with pytest.raises(rft.StateError, match="no gradient"):
        failing()
    with pytest.raises(AttributeError, match="no verb"):
        trainer.submit("fly")
