"""What a run file says under rollout: reaches every completion that is sampled, and the sampler still equals the trainer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_run import run_file  # noqa: F401

import rft


def rollouts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]


def texts(folder: Path) -> list[str]:
    return [sample["completion"] for sample in rollouts(folder)]


def train(run_file: Path, tmp_path: Path, *overrides: str) -> Path:  # noqa: F811
    """Trains, sees that sampler and trainer agree, and returns the run's folder."""
    with rft.Run.from_file(run_file, overrides=["filter.zero_variance=false", *overrides]) as run:
        for step in run:
            assert step.logprob_diff_max == 0.0
    return tmp_path / "run"


@pytest.mark.parametrize(("rule", "matches"), [
    ("regex='[0-9]{3}'", re.compile(r"[0-9]{3}")),
    ('ebnf=root ::= "yes" | "no"', re.compile("yes|no")),
    ("json_schema='{\"type\": \"boolean\"}'", re.compile("true|false")),
])
def test_completions_follow_the_grammar(rule: str, matches: re.Pattern[str], run_file: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = train(run_file, tmp_path, "rollout." + rule)
    found = texts(folder)
    assert len(found) == 3 * 16 and all(matches.fullmatch(text.strip()) for text in found), found
    assert len(set(found)) > 1


def test_penalties_change_what_is_sampled(run_file: Path, tmp_path: Path) -> None:  # noqa: F811
    plain = texts(train(run_file, tmp_path, "trainer.steps=1"))
    for name, value in (("repetition_penalty", 2), ("presence_penalty", 2), ("frequency_penalty", 2)):
        folder = tmp_path / name
        train(run_file, tmp_path, "trainer.steps=1", f"rollout.{name}={value}", f"run_dir={folder}")
        assert texts(folder) != plain


def test_ignore_eos_goes_on(run_file: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = train(run_file, tmp_path, "rollout.ignore_eos=true", "rollout.max_tokens=200", "trainer.steps=1")
    assert all(sample["num_tokens"] == 200 for sample in rollouts(folder))


@pytest.mark.parametrize(("overrides", "message"), [
    (["rollout.regex=a", "rollout.ebnf=b"], "rollout.ebnf: and rollout.regex are both set"),
    (["rollout.regex=("], "rollout.regex: "),
    (["rollout.presence_penalty=3"], "rollout.presence_penalty: "),
])
def test_what_can_not_be_sampled_so_is_said_at_once(
        overrides: list[str], message: str, run_file: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(rft.ConfigError, match=message):
        rft.Run.from_file(run_file, overrides=overrides)
    assert not (tmp_path / "run").exists()
