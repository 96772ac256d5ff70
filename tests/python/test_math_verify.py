"""math_equal with its workers: pairs that only math-verify can decide, and what it says about all of the golden ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rft import _native

GOLDEN = Path(__file__).resolve().parent.parent / "graders" / "data" / "math_answers_golden.json"


def grades(pairs: list[tuple[str, str]], **params: str) -> list[dict]:
    rows = [json.dumps({"answer": expected}) for expected, _ in pairs]
    spec = {"type": "math_equal", "deadline_s": 60, "params": params}
    return [grade[0] for grade in _native.load().grade_rows([spec], rows, [answer for _, answer in pairs])]


def test_undecided_pairs_go_to_math_verify() -> None:
    pairs = [("5040", r"\boxed{7!}"), ("49", r"\boxed{7!}"), ("1<x<2", r"$\boxed{1 < x < 2}$"), (r"\sin x", r"\boxed{\sin(x)}"),
             ("5", "First we add.\nSo the final answer is $5$. I hope it is correct."), ("6", "So\nthe final answer is $5$.")]
    results = grades(pairs)
    assert [grade["kind"] for grade in results] == ["score"] * len(pairs)
    assert [grade["score"] for grade in results] == [1, 0, 1, 1, 1, 0]


def test_the_golden_pairs_get_math_verifys_verdicts() -> None:
    cases = json.loads(GOLDEN.read_text())["cases"]
    results = grades([(expected, rf"\boxed{{{answer}}}") for expected, answer, _ in cases], workers="2")
    wrong = [(case, grade) for case, grade in zip(cases, results) if grade["score"] != float(case[2])]
    # Pairs whose spelling math-verify itself can't read are errors or abstentions of ours, never a score that differs.
    assert [case for case, grade in wrong if grade["kind"] == "score"] == []
    assert len(wrong) <= 0.02 * len(cases), wrong


def test_the_worker_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    [grade] = grades([("5040", r"\boxed{7!}")])
    assert grade["kind"] == "error"
    assert "pip install math-verify" in grade["reason"]
