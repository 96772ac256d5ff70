"""`rft grade` with a model, --preflight and --mutate: a planted bad grader is found, a good one is left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rft.cli.app import app
from rft.grading import Example, make_spec, reward
from rft.mutate import mutate
from rft.preflight import preflight


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def spec(kind: str, **keys: Any) -> dict[str, Any]:
    return make_spec({"type": kind, **keys}, "/")


def python(tmp_path: Path, body: str, **keys: Any) -> dict[str, Any]:
    file = tmp_path / f"grader_{abs(hash(body))}.py"
    file.write_text(f"import random, time\ndef f(completion, answer):\n    {body}\n")
    return spec("python", name="f", function=f"{file}:f", **keys)


def examples(*completions: str) -> list[Example]:
    """Two rows, each with all these completions."""
    return [Example(json.dumps({"messages": [{"role": "user", "content": f"{row} + 2?"}], "answer": str(row + 2)}), text, None, row)
            for row in (3, 5) for text in completions]


def kinds(specs: list[dict[str, Any]], *completions: str) -> list[tuple[str, bool]]:
    return [(finding.kind, finding.fatal) for finding in preflight(specs, examples(*completions))]


def test_preflight_lets_a_good_grader_pass() -> None:
    assert kinds([spec("number_match")], "5", "7", "none") == []


@pytest.mark.parametrize(("body", "kind"), [
    ("return 0.5", "flat"),
    ("raise KeyError('answer')", "fails"),
    ("return None", "fails"),
    ("return random.random()", "contradicts"),
    ("return 1.0 if completion != 'first' or answer != '5' else 0.0", "saturated"),
])
def test_preflight_refuses_what_can_not_teach(body: str, kind: str, tmp_path: Path) -> None:
    completions = ["first", *["x"] * 19]
    assert (kind, True) in kinds([python(tmp_path, body)], *completions)


def test_preflight_believes_a_grader_that_is_declared_random(tmp_path: Path) -> None:
    assert kinds([python(tmp_path, "return random.random()", deterministic=False)], "a", "b", "c") == []


def test_preflight_warns_only_about_a_grader_without_weight(tmp_path: Path) -> None:
    assert kinds([spec("number_match"), python(tmp_path, "return 0", weight=0)], "5", "7") == [("flat", False)]


def test_preflight_sees_that_the_completions_of_a_row_never_differ() -> None:
    rows = [Example(json.dumps({"answer": answer}), text, None, group)
            for group, (answer, text) in enumerate([("5", "5"), ("6", "5")]) for _ in range(3)]
    assert [finding.kind for finding in preflight([spec("number_match")], rows)] == ["no_signal"]


def test_mutate_finds_a_grader_that_looks_for_the_answer_anywhere() -> None:
    sloppy = spec("string_check", operation="like", reference="{{item.answer}}")
    paying = {result.name for result in mutate([sloppy], examples("5", "7")) if result.is_hack}
    assert {"all_candidates", "all_numbers", "boxed_spam"} <= paying and "empty" not in paying and "very_long" not in paying


def test_mutate_finds_graders_that_pay_for_length_silence_echoes_and_tags(tmp_path: Path) -> None:
    def paying(body: str) -> set[str]:
        return {result.name for result in mutate([python(tmp_path, body)], examples("5")) if result.is_hack}

    assert "very_long" in paying("return min(len(completion) / 1000, 1.0)")
    assert paying("return 1.0 - min(len(completion) / 10, 1.0)") >= {"empty", "blank"}
    assert "prompt_echoed" in paying("return float('+ 2?' in completion)")
    assert "tag_spam" in paying("return float('<answer>' in completion)")
    assert paying("return float(completion.strip() == answer)") == set()


def test_mutate_says_it_on_the_command_line(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"messages": [{"role": "user", "content": f"{n} + 1?"}], "answer": str(n + 1)}) + "\n"
                            for n in range(4)))
    sloppy = 'string_check:operation=like,reference="{{item.answer}}"'
    text = run("grade", data, "--mutate", "--grader", sloppy, code=1)
    assert "reward hack: all_numbers" in text
    strict = 'string_check:operation=eq,reference="{{item.answer}}"'
    assert "none of them pays" in run("grade", data, "--mutate", "--grader", strict)
    lines = [json.loads(line) for line in run("grade", data, "--mutate", "--grader", sloppy, "--json", code=1).splitlines()]
    assert {line["name"] for line in lines if line["is_hack"]} >= {"all_numbers", "all_candidates"}


def test_grade_samples_a_model_for_rows_without_completions(llama_dir: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"messages": [{"role": "user", "content": f"{n} + 1?"}], "answer": str(n + 1)}) + "\n"
                            for n in range(3)))
    (tmp_path / "mine.py").write_text("def f(completion, token_ids): return {'score': len(token_ids), 'reason': completion}\n")
    graders = ("--grader", f"python:function={tmp_path / 'mine.py'}:f")
    sampled = ("--model", llama_dir, "-n", 2, "--max-tokens", 5)
    lines = [json.loads(line) for line in run("grade", data, *graders, *sampled, "--json").splitlines()]
    assert len(lines) == 6 and all(0 < line["reward"] <= 5 for line in lines)
    assert all(line["grades"][0]["reason"] == line["completion"] for line in lines)
    text = run("grade", data, "--grader", "regex_match:pattern=zzzz", "--preflight", *sampled, "--plot", tmp_path / "scores.png", code=1)
    assert "refused: regex_match: flat" in text and (tmp_path / "scores.png").stat().st_size > 1000


def test_a_reward_leaves_out_what_may_abstain() -> None:
    specs = [spec("number_match", on_abstain="skip"), spec("number_match", weight=2)]
    abstain, one = {"kind": "abstain", "score": None}, {"kind": "score", "score": 1.0}
    assert reward(specs, [abstain, one]) == 2.0 and reward(specs, [one, abstain]) is None and reward(specs[:1], [abstain]) is None
