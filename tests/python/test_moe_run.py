"""Runs that fine-tune a mixture of experts: replay of either kind, what is recorded, resume; hot-load and prefix hits of the engine."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import make_model
from test_moe import chosen_by, make_reference, replay_datum
from test_parity import datum, ids_of

import rft
from rft import _native

EXTENSION = _native.load()
TIMINGS = ("sample_s", "train_s", "seconds", "tokens_per_s_sampling", "tokens_per_s_training")


@pytest.fixture(scope="module")
def moe_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3-MoE with a tokenizer."""
    return make_model(tmp_path_factory.mktemp("moe"), "qwen3_moe")


@rft.grader
def vowels(completion: str) -> float:
    """Share of some characters: differs between completions of random weights."""
    return sum(c in "aeiou1" for c in completion) / 8


def config(model: Path, run_dir: Path, *overrides: str) -> rft.RunConfig:
    data = run_dir.parent / "train.jsonl"
    data.write_text("".join(json.dumps({"messages": [{"role": "user", "content": f"{i} + 1"}]}) + "\n" for i in range(8)))
    return rft.RunConfig.from_json(json.dumps({
        "model": str(model), "seed": 1, "run_dir": str(run_dir), "data": {"train": str(data)},
        "rollout": {"prompts_per_step": 2, "group_size": 4, "max_tokens": 8}, "checkpoint": {"every": 100},
        "trainer": {"steps": 3, "learning_rate": 0.02, "dtype": "fp32", "threads": 1, "updates_per_step": 2}}), list(overrides))


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMINGS} for line in lines]


@pytest.mark.parametrize(("mode", "prompts"), [("rollout", "false"), ("rollout", "true"), ("old-policy", "false"), ("off", "false")])
def test_a_run_replays_as_it_is_told(moe_dir: Path, tmp_path: Path, mode: str, prompts: str) -> None:
    with rft.Run(config(moe_dir, tmp_path / "run", f"trainer.routing_replay={mode}", f"trainer.replay_prompt_routes={prompts}",
                        "trainer.router_load_balance_coef=0.01", "losses.kl_coef=0.01"), graders=[vowels]) as run:
        assert [step.logprob_diff_max for step in run] == [0.0] * 3
    for line in metrics(run.dir):
        assert line["loss/router_entropy"] > 0.0 and line["loss/router_max_load"] >= 1.0
        assert ("loss/routing_changed" in line) == (mode != "off")  # a share of what was replayed
        if mode != "off":
            assert 0.0 < line["loss/routing_changed"] <= 0.5 and line["loss/routing_weight_drift"] > 0.0  # from the second update on
    lines = [json.loads(line) for line in (run.dir / "rollouts.jsonl").read_text().splitlines()]
    assert len(lines) >= 3 * 2 * 4


def test_an_interrupted_run_takes_its_routes_from_the_journal(moe_dir: Path, tmp_path: Path) -> None:
    with rft.Run(config(moe_dir, tmp_path / "whole"), graders=[vowels]) as whole:
        list(whole)
    cut = rft.Run(config(moe_dir, tmp_path / "cut"), graders=[vowels])
    assert [cut.step().index, cut.step().index] == [0, 1]
    cut.close()
    with rft.Run.resume(cut.dir, graders=[vowels]) as again:  # no checkpoint: two steps from the journal, then a fresh one
        assert [step.index for step in again] == [0, 1, 2]
    assert metrics(cut.dir) == metrics(whole.dir)
    assert (cut.dir / "rollouts.jsonl").read_bytes() == (whole.dir / "rollouts.jsonl").read_bytes()
    names = [(folder / "model" / "model.safetensors").read_bytes() for folder in (cut.dir, whole.dir)]
    assert names[0] == names[1]


def journalled(folder: Path) -> list[dict[str, Any]]:
    """The rollouts of the journal that were trained on (rft/io/journal.h)."""
    data, found = (folder / "journal").read_bytes()[8:], []
    while data:
        (size,) = struct.unpack_from("<I", data)
        found += json.loads(data[8:8 + size])["rollouts"]
        data = data[8 + size:]
    trained = {(line["group"], line["index"]) for line in map(json.loads, (folder / "rollouts.jsonl").read_text().splitlines())
               if line["trained"]}
    return [one for one in found if (one["group"], one["index"]) in trained]


def test_the_reference_keeps_its_own_routing_while_the_policy_replays(moe_dir: Path, tmp_path: Path) -> None:
    with rft.Run(config(moe_dir, tmp_path / "run", "trainer.updates_per_step=1", "trainer.learning_rate=0.05", "losses.kl_coef=0.001",
                        "trainer.steps=4"), graders=[vowels]) as run:
        for _ in range(3):
            run.step()
        rollouts = journalled(run.dir)
    rows, logprobs = [], []
    for rollout in rollouts:
        if rollout["step"] != 2:
            continue
        prompt, model = rollout["segments"]
        packed = np.frombuffer(bytes.fromhex(model["routes"]), np.uint8).reshape(len(model["ids"]), -1)
        routes = np.concatenate([np.zeros((len(prompt["ids"]), packed.shape[1]), np.uint8), packed])
        weights = [0.0] * len(prompt["ids"]) + [1.0] * len(model["ids"])
        rows.append((prompt["ids"] + model["ids"], weights, {"routes": routes, "routed": np.array(weights, np.uint8)}))
        logprobs.append(model["logprobs"])
    base = EXTENSION.Trainer(rft.Model.load(str(moe_dir), dtype="fp32"))
    means = []
    for replays in (False, True):
        forward = base.forward([rft.Datum(ids, weights, **(extra if replays else {})) for ids, weights, extra in rows])
        means.append(np.concatenate([np.array(lp) - ref[-len(lp):] for lp, ref in zip(logprobs, forward, strict=True)]).mean())
    reported = metrics(run.dir)[2]["loss/ref_kl_k1"]
    assert reported == pytest.approx(means[0], abs=1e-5)
    assert abs(reported - means[1]) > 1e-3  # what a reference that replays would say


def test_completion_only_routes_leave_the_prompt_to_the_router(tmp_path: Path) -> None:
    make_reference("softmax-renormalised", tmp_path)
    model = rft.Model.load(str(tmp_path), dtype="fp32")
    trainer, prompt = EXTENSION.Trainer(model), ids_of(96, 25, 6)
    with rft.Engine(model) as engine:
        sample = engine.generate([prompt], max_tokens=8, ignore_eos=True, routes="all")[0][0]
    ids = prompt + sample.ids.tolist()
    own = np.concatenate([sample.prompt_routes, sample.routes])
    others = np.concatenate([own[:1], model.pack_routes(np.sort((model.unpack_routes(own[1:]) + 1) % 10, -1))])

    def logprobs(routes: np.ndarray, routed: list[int]) -> list[float]:
        got: list[float] = trainer.forward([rft.Datum(ids, [0.0] * 25 + [1.0] * 8, routes=routes, routed=routed)])[0].tolist()
        return got

    everywhere, nowhere, completion = [0] + [1] * 32, [0] * 33, [0] * 25 + [1] * 8
    mixed = np.concatenate([others[:25], own[25:]])
    assert logprobs(own, everywhere) == logprobs(mixed, completion) == logprobs(others, nowhere)
    assert logprobs(mixed, everywhere) != logprobs(mixed, completion)  # the prompt's experts matter
    assert logprobs(others, completion) != logprobs(others, nowhere)


def test_rollouts_that_were_preempted_or_hit_the_prefix_cache_replay_to_the_same_bits(tmp_path: Path) -> None:
    make_reference("softmax-renormalised", tmp_path)
    model = rft.Model.load(str(tmp_path), dtype="bf16")
    trainer, prompt = EXTENSION.Trainer(model), ids_of(96, 40, 7)
    page = rft.Engine(model).stats()["page_bytes"]
    with rft.Engine(model, max_batch=3, max_batch_tokens=9, kv_memory_bytes=14 * page) as engine:
        for _ in range(2):
            samples = engine.generate([prompt], n=4, max_tokens=60, ignore_eos=True, routes="all")[0]
            for sample in samples:
                again = trainer.forward([replay_datum(prompt, sample)])[0]
                assert np.array_equal(again[len(prompt):], sample.logprobs)
        stats = engine.stats()
    assert stats["preemptions"] > 0 and stats["prefix_hit_tokens"] > 0


def test_a_prefix_hit_has_the_routes_of_the_first_time(tmp_path: Path) -> None:
    make_reference("softmax-renormalised", tmp_path)
    model = rft.Model.load(str(tmp_path), dtype="bf16")
    prompt = ids_of(96, 70, 1)
    with rft.Engine(model) as engine:
        first, second = (engine.generate([prompt], max_tokens=6, ignore_eos=True, routes="all", seed=3)[0][0] for _ in range(2))
        assert engine.stats()["prefix_hit_tokens"] > 0
        none = engine.generate([prompt], max_tokens=6, ignore_eos=True)[0][0]
    assert np.array_equal(first.prompt_routes, second.prompt_routes) and np.array_equal(first.routes, second.routes)
    assert none.routes is None and none.prompt_routes is None
    assert first.routes.shape == (6, model.route_bytes)


def test_tokens_keep_the_routes_of_the_version_that_drew_them(tmp_path: Path) -> None:
    old = make_reference("softmax-renormalised", tmp_path / "old")
    model = rft.Model.load(str(tmp_path / "old"), dtype="fp32")
    trainer, prompt, drawn = EXTENSION.Trainer(model), ids_of(96, 20, 2), []
    with rft.Engine(model, max_batch=4) as engine:

        def learn(*token: Any) -> None:
            """A new version after the tenth token, while the rest is being sampled."""
            drawn.append(token)
            if len(drawn) == 10:
                trainer.forward_backward([datum(ids_of(96, 60, 3))], loss="cross-entropy")
                trainer.optim_step(learning_rate=0.05)
                engine.publish(trainer.weights())

        samples = engine.generate([prompt], n=32, max_tokens=200, ignore_eos=True, routes="all", weight_policy="recompute",
                                  on_token=learn)[0]
    model.save(str(tmp_path / "new"), dtype="fp32")
    new = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "new", dtype=torch.float32, attn_implementation="eager").eval()
    sample = next(s for s in samples if s.versions[0] != s.versions[-1])
    ids, start, swap = prompt + sample.ids.tolist(), len(prompt) - 1, int(np.searchsorted(sample.versions, sample.versions[-1]))
    got, before, after = model.unpack_routes(sample.routes), chosen_by(old, ids), chosen_by(new, ids)
    np.testing.assert_array_equal(got[:swap], before[start:start + swap])
    np.testing.assert_array_equal(got[swap:], after[start + swap:-1])
    assert (before[start + swap:] != after[start + swap:]).any()


def test_the_wire_form_comes_back_as_it_went(tmp_path: Path) -> None:
    make_reference("softmax-renormalised", tmp_path)
    model = rft.Model.load(str(tmp_path), dtype="fp32")
    prompt = ids_of(96, 9, 5)
    sample = rft.Engine(model).generate([prompt], max_tokens=5, ignore_eos=True, routes="all")[0][0]
    texts = [""] * len(prompt) + model.routes_to_wire(sample.routes)
    routes, routed = model.routes_from_wire(texts)
    assert routed.tolist() == [0] * len(prompt) + [1] * 5 and np.array_equal(routes[len(prompt):], sample.routes)
    ids = prompt + sample.ids.tolist()
    row = rft.Datum(ids, [0.0] * len(prompt) + [1.0] * 5, routes=routes, routed=routed)
    trainer = EXTENSION.Trainer(model)
    assert trainer.forward([row])[0].tolist() == trainer.forward([replay_datum(prompt, sample)])[0].tolist()
    by_input, of_them = model.routes_from_wire(texts[1:], of_inputs=True)  # entry p: what predicted token p + 1
    assert np.array_equal(by_input, routes) and np.array_equal(of_them, routed)
    with pytest.raises(rft.ConfigError, match=r"routing_matrices\[1\]: not base64"):
        model.routes_from_wire(["", "?"])


def test_the_example_runs_and_replay_lowers_the_mismatch(tmp_path: Path) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "02_moe_replay" / "run.py"
    subprocess.run([sys.executable, str(example), "--fast", "--out", str(tmp_path)], check=True, capture_output=True, timeout=300)
    curves = json.loads((tmp_path / "curves.json").read_text())
    means = {name: np.mean([[step["mismatch_kl"] for step in run] for run in runs]) for name, runs in curves.items()}
    assert 0.0 < means["with replay"] < means["without replay"] < 1e-3
    assert all(0.0 < step["changed"] < 0.1 for step in curves["with replay"][0])
    assert (tmp_path / "curves.png").stat().st_size > 10_000
