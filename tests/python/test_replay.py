"""Steps that were given up because of NaN or infinity: nothing changes, the batch is kept whole, and `rft replay` finds the row."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import rft
from rft.cli import app
from rft.fine_tune import FineTune
from rft.replay import Batch, Call, batches_of, replay, trainer_of

HUGE = 3e38  # a weight that float32 has, and whose gradient it has not


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def config(llama_dir: Path, folder: Path, rows: list[dict[str, Any]], **more: Any) -> rft.RunConfig:
    return rft.RunConfig.from_json(json.dumps({
        "model": str(llama_dir), "run_dir": str(folder / "run"), "data": {"train": write(folder / "t.jsonl", rows), "shuffle": False},
        "trainer": {"steps": 3, "learning_rate": 0.01, "dtype": "fp32", "threads": 1}, "checkpoint": {"every": 1}, **more}))


def replayed(run_dir: Path, *arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, ["replay", str(run_dir), *arguments])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def fields(datum: rft.Datum) -> dict[str, Any]:
    names = ("ids", "weights", "advantages", "old_logprobs", "sampling_logprobs", "ref_logprobs", "sft_weights")
    return {name: np.asarray(getattr(datum, name)).tolist() for name in names} | {"prefix": (datum.prefix_id, datum.prefix_length)}


def test_a_skipped_step_changes_nothing_and_its_row_is_found(llama_dir: Path, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"{i} + 1"}, {"role": "assistant", "content": str(i + 1), "weight": HUGE if i == 6 else 1}]}
            for i in range(12)]
    tune = FineTune(config(llama_dir, tmp_path, rows, sft={"rows_per_step": 4}), "sft")
    states = []
    for step in range(3):
        metrics = tune.step()
        assert metrics is not None and metrics["skipped"] == float(step == 1)
        assert tune.not_finite.startswith("row 6 of data.train: weights[" if step == 1 else ""), tune.not_finite
        states.append((tune.dir / "state" / "trainer.safetensors").read_bytes())
    assert states[0] == states[1] != states[2] and tune.state["not_finite"] == 0
    [whole, *each] = replayed(tune.dir)
    assert not whole["finite"] and [row["finite"] for row in each] == [True, True, False, True]
    assert replayed(tune.dir, "--step", "1") == [whole, *each]
    refused = CliRunner().invoke(app, ["replay", str(tune.dir), "--step", "2"])
    assert refused.exit_code == 1 and "these were: 1" in str(refused.output)


def test_ten_skipped_steps_in_a_row_end_the_run(llama_dir: Path, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": "2", "weight": HUGE}]}]
    tune = FineTune(config(llama_dir, tmp_path, rows, sft={"rows_per_step": 1}, trainer={
        "steps": 50, "learning_rate": 0.01, "dtype": "fp32", "threads": 1}, checkpoint={"every": 0}), "sft")
    while tune.step() is not None:
        pass
    assert tune.step_index == 10 and "10 steps in a row" in tune.stop_reason and "rft replay" in tune.stop_reason
    assert len(batches_of(tune.dir)) == 10


@pytest.mark.parametrize("verb", ["pairs", "teacher"])
def test_a_batch_comes_back_bit_for_bit(llama_dir: Path, tmp_path: Path, verb: str) -> None:
    trainer = rft.Trainer(rft.Model.load(str(llama_dir), dtype="fp32", threads=1))
    random = np.random.default_rng(0)
    datums = [rft.Datum(random.integers(3, 90, 9), [0.0] * 4 + [1.0] * 5, random.normal(size=9), ref_logprobs=-random.random(9), prefix_id=2,
                        prefix_length=3) for _ in range(4)]
    for datum in datums:
        datum.ids = [1, 2, 3, *datum.ids[3:].tolist()]
    if verb == "pairs":
        calls = [Call("forward_backward_preference", datums, {"loss": "dpo", "beta": 0.3}, [2, 2])]
    else:
        _, _, ids, logprobs = trainer.describe(datums, 5)
        calls = [Call("forward_backward_distillation", datums, {"top_ids": ids, "top_logprobs": logprobs, "direction": "reverse"})]
    before = list(replay(trainer, calls))
    Batch(7, 1.0, calls).save(tmp_path / "not-finite-7.json")
    batch = Batch.load(tmp_path / "not-finite-7.json")
    assert batch.step == 7 and [fields(datum) for datum in batch.calls[0].datums] == [fields(datum) for datum in datums]
    assert list(replay(trainer, batch.calls)) == before and len(before) == (3 if verb == "pairs" else 5)
    with pytest.raises(rft.StateError):  # nothing is left of it
        trainer.optim_step()
    (tmp_path / "not-finite-8.json").write_text("{}")
    with pytest.raises(ValueError, match="not-finite-8.json: not a batch that a run left"):
        Batch.load(tmp_path / "not-finite-8.json")


@pytest.mark.parametrize(("losses", "lora"), [({}, 0), ({"kl_coef": 0.01}, 4), ({"kl_coef": 0.01, "kl_target": "reward"}, 0)])
def test_the_groups_of_a_run_with_rewards_are_replayed(llama_dir: Path, tmp_path: Path, losses: dict[str, Any], lora: int) -> None:
    @rft.grader
    def huge(completion: str) -> float:
        return HUGE * (len(completion) % 2)

    rows = [{"messages": [{"role": "user", "content": f"{i} + 1"}]} for i in range(4)]
    run_config = config(llama_dir, tmp_path, rows, rollout={"prompts_per_step": 2, "group_size": 4, "max_tokens": 8},
                        advantage={"kind": "dr-grpo"}, losses={"name": "dr-grpo", **losses}, lora={"rank": lora})
    with rft.Run(run_config, graders=[huge]) as run:
        report = run.step()
        assert report is not None and report.skipped
    [event] = [json.loads(line) for line in (run.dir / "events.jsonl").read_text().splitlines() if '"not_finite"' in line]
    assert re.fullmatch(r"row [0-3], group [01], rollout [0-3]: advantages\[\d+\] is -?[0-9.]+e\+3\d", event["where"])
    [batch] = batches_of(run.dir).values()
    assert batch.step == 0 and batch.calls[0].arguments["loss"] == "dr-grpo"
    trainer, at = trainer_of(run.dir, batch)
    [whole, *each] = replay(trainer, batch.calls)
    assert at <= 1 and not whole["finite"] and not all(row["finite"] for row in each)
    assert [row["tokens"] for row in each] == [int((np.asarray(datum.weights) != 0).sum()) for datum in batch.calls[0].datums]
    assert replayed(run.dir)[0]["finite"] is False
