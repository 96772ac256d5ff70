"""`rft.compute_advantages` and graders that score turns and tokens."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_run import run_file  # noqa: F401

import rft
from rft.run_folder import read_metrics


def load_oracle() -> Any:
    """The plain numpy of tests/oracles."""
    path = Path(__file__).resolve().parents[1] / "oracles" / "make_advantage_golden.py"
    spec = importlib.util.spec_from_file_location("make_advantage_golden", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ORACLE = load_oracle()


def test_held_out_cases_of_every_kind_equal_numpy() -> None:
    for case in ORACLE.make(seed=11):
        if case["family"] == "tokens":
            continue
        rewards, lengths = ([group[part] for group in case["groups"]] for part in (0, 1))
        got = rft.compute_advantages(rewards, case["kind"], lengths=lengths, **case["options"])
        for ours, want in zip(got, case["expected"], strict=True):
            for a, b in zip(ours, want, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-9)


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    import torch

    assert rft.compute_advantages(np.array([[1.0, 0.0]], dtype=np.float32), "dr-grpo") == [[0.5, -0.5]]
    assert rft.compute_advantages([torch.tensor([1.0, 0.0])], "dr-grpo") == [[0.5, -0.5]]
    assert rft.compute_advantages([[True, None, 0]], "dr-grpo") == [[0.5, 0.0, -0.5]]


@pytest.mark.parametrize(("arguments", "message"), [
    (([[1.0, "x"]],), r"rewards\[0\]\[1\]: expected"), (([1.0],), r"rewards\[0\]: expected a group"),
    (([[1.0, [1.0]]],), "some are numbers, some are lists of turns"), (([[1.0, 0.0]], "gae"), "unknown advantage 'gae'")])
def test_mistakes_say_where_they_are(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(rft.ConfigError, match=message):
        rft.compute_advantages(*arguments)
    with pytest.raises(rft.ConfigError, match="lengths: expected one per reward"):
        rft.compute_advantages([[1.0, 0.0]], lengths=[[1]])


@rft.grader
def digits(completion: str) -> float:
    return min(1.0, sum(c.isdigit() for c in completion) / 4)


@rft.grader(name="digits")
def by_turn(completion: str) -> list[float]:
    return [min(1.0, sum(c.isdigit() for c in completion) / 4)]


@rft.grader(name="digits")
def by_token(token_ids: list[int]) -> dict[str, Any]:
    return {"score": 0.0, "token_advantages": [0.1 * (i % 7) - 0.3 for i in token_ids]}


@rft.grader(name="digits")
def too_many() -> list[float]:
    return [1.0, 0.0]


def run(file: Path, name: str, grader: Any, *overrides: str) -> Path:
    settings = json.loads(file.read_text())
    settings["graders"][0]["weight"] = 0.0
    settings["run_dir"] = str(file.parent / name)
    file.write_text(json.dumps(settings))
    with rft.Run.from_file(file, graders=[grader], overrides=["trainer.steps=2", *overrides]) as started:
        list(started)
        return Path(started.dir)


def losses(folder: Path) -> list[tuple[float, float]]:
    return [(line["loss"], line["grad_norm"]) for line in read_metrics(folder)]


def test_one_turn_is_the_rollout(run_file: Path) -> None:  # noqa: F811
    whole = run(run_file, "whole", digits)
    assert losses(run(run_file, "turn", by_turn, "advantage.level=turn")) == losses(whole)


def test_token_advantages_train_where_rewards_are_equal(run_file: Path) -> None:  # noqa: F811
    folder = run(run_file, "token", by_token)
    assert all(norm > 0.0 for _, norm in losses(folder))
    lines = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    assert all(line["trained"] and line["reward"] == 0.0 for line in lines)


def test_scores_of_turns_that_are_not_there_are_an_error(run_file: Path) -> None:  # noqa: F811
    folder = run(run_file, "wrong", too_many)
    lines = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    assert lines and all(not line["scored"] and line["dropped"] == "too_few_graded" for line in lines)
    assert {"kind": "error", "reason": "2 turn scores for a completion of 1 turns"}.items() <= lines[0]["grades"][1].items()
