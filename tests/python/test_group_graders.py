"""Python graders that judge a group at once, calls that hang, rft.Grade, and models of our own as judges."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import rft
from rft.graders import grader_spec

ROWS = [json.dumps({"messages": [{"role": "user", "content": f"{n}?"}], "answer": n, "level": {"easy": n == 1}}) for n in (1, 2)]


def grade(function: Any, completions: list[str], rows: list[str] | None = None, **extra: Any) -> list[dict[str, Any]]:
    """The grade of each completion; the first half is of the first row, unless `rows` says otherwise."""
    half = len(completions) // 2
    spec = grader_spec(function)
    spec["params"] |= {key: str(value) for key, value in extra.items()}
    lines = rows or [ROWS[0]] * half + [ROWS[1]] * (len(completions) - half)
    return [grades[0] for grades in rft.grade_rows([spec], lines, completions)]


@rft.grader(style="group")
def by_length(completions, row, answer, level, messages, finish_reasons, token_ids):
    assert row["answer"] == answer and level == {"easy": answer == 1}
    assert [m[-1]["content"] for m in messages] == completions and messages[0][0]["content"] == f"{answer}?"
    assert len(finish_reasons) == len(token_ids) == len(completions)
    ranks = sorted(range(len(completions)), key=lambda i: len(completions[i]))
    return [rft.Grade(ranks.index(i), f"of {len(completions)}", {"answer": answer}) for i in range(len(completions))]


def test_a_group_is_judged_in_one_call_with_the_columns_of_its_row() -> None:
    grades = grade(by_length, ["aaa", "b", "cc", "d", "eee", "ff"])
    assert [one["score"] for one in grades] == [2, 0, 1, 0, 2, 1]
    assert {one["reason"] for one in grades} == {"of 3"}
    assert [one["sub_scores"]["answer"] for one in grades] == [1, 1, 1, 2, 2, 2]


@rft.grader(style="group")
async def later(completions):
    return [None if text == "skip" else 1 / len(completions) for text in completions]


def test_a_group_function_may_be_async_and_abstain_on_one() -> None:
    kinds = [(one["kind"], one["score"]) for one in grade(later, ["a", "skip", "b", "c"])]
    assert kinds == [("score", 0.5), ("abstain", None), ("score", 0.5), ("score", 0.5)]


@rft.grader(style="group", deadline_s=1)
def picky(completions):
    import time

    if "raise" in completions:
        raise ValueError("not this one")
    if "short" in completions:
        return [1.0]
    if "hang" in completions:
        time.sleep(60)
    return [1.0] * len(completions)


@pytest.mark.parametrize(("word", "kind", "reason"), [("raise", "error", "ValueError: not this one"), ("hang", "timeout", "1"),
                                                      ("short", "error", "returned 1 results for 2 completions")])
def test_a_group_fails_as_a_whole_and_alone(word: str, kind: str, reason: str) -> None:
    grades = grade(picky, ["fine", word, "good", "too"])
    assert [one["kind"] for one in grades] == [kind, kind, "score", "score"]
    assert all(reason in one["reason"] for one in grades[:2])


def test_completions_of_different_rows_are_groups_of_their_own() -> None:
    assert [one["score"] for one in grade(by_length, ["a", "bb"], rows=ROWS)] == [0, 0]


def test_a_judge_of_our_own_is_asked_by_its_name(llama_dir: Path) -> None:
    spec = {"name": "judge", "type": "llm_judge", "deadline_s": 60,
            "params": {"generator": "mine", "reasks": "0", "max_tokens": "4", "rubric": "x", "question": "?"}}
    with rft.judge("mine", llama_dir):
        (given,), = rft.grade_rows([spec], [ROWS[0]], ["yes"])
    assert given["kind"] == "error" and "1 attempts" in given["reason"]  # a random model's answer is no verdict
    with pytest.raises(rft.StateError, match='nothing is called "mine"'):
        rft.grade_rows([spec], [ROWS[0]], ["yes"])


JUDGES = {
    "rubric": {"type": "llm_judge", "params": {"range": [-1, 5], "rubric": "x", "question": "?"}},
    "rank": {"type": "llm_judge", "params": {"method": "rank", "rubric": "x", "question": "?"}},
    "pairwise": {"type": "llm_judge", "params": {"method": "pairwise", "reference": "y", "question": "?"}},
    "score_model": {"type": "score_model", "params": {"input": [{"role": "user", "content": "Rate {{sample.output_text}}"}], "range": [0, 7]}},
    "label_model": {"type": "label_model", "params": {"input": [{"role": "user", "content": "x"}], "labels": ["good", "bad"],
                                                      "passing_labels": ["good"]}},
    "openai": {"type": "openai", "params": {"grader": {"type": "score_model", "model": "any", "name": "g", "range": [0, 7],
                                                       "input": [{"role": "user", "content": "Rate {{sample.output_text}}"}]}}},
}


def test_the_replies_of_a_judge_of_our_own_are_held_to_their_form(llama_dir: Path, tmp_path: Path) -> None:
    judge_dir = Path(shutil.copytree(llama_dir, tmp_path / "judge"))
    config = json.loads((judge_dir / "config.json").read_text())
    (judge_dir / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))  # the questions are long
    # Random weights and a high temperature: what is not enforced will not be there.
    sampling = {"reasks": "0", "max_tokens": "256", "temperature": "1"}
    with rft.judge("mine", judge_dir):
        for name, judge in JUDGES.items():
            own = {"generator": "mine"} if name == "openai" else {"generator": "mine", **sampling}
            for seed in range(3):
                spec = judge | {"deadline_s": 60, "params": judge["params"] | own | ({} if name == "openai" else {"seed": str(seed)})}
                grades = [one for (one,) in rft.grade_rows([spec], [ROWS[0]] * 2, ["yes", "no"])]
                if name == "rank":  # the numbers are right; whether each comes once is the model's
                    assert all(one["kind"] == "score" or "once" in one["reason"] for one in grades), grades
                else:
                    assert all(one["kind"] == "score" for one in grades), (name, grades)


def test_a_grade_says_no_opinion_with_a_reason() -> None:
    def unsure(completion):
        return rft.Grade(None, "too short to tell")

    assert grade(unsure, ["a", "b"])[0] | {"seconds": 0} == {
        "grader": "unsure", "kind": "abstain", "score": None, "reason": "too short to tell", "sub_scores": {}, "seconds": 0}


# As text, so that workers start quickly: a function of this module brings pytest with it.
BUSY = """
import os
import time

def grade(sample, item):
    if sample["output_text"] == "hang":
        with open(item["note"], "a") as file:
            file.write(f"{time.monotonic()} {os.getpid()}\\n")
        while True:
            pass
    return 1.0
"""


def test_calls_that_hang_wait_for_their_deadline_side_by_side(tmp_path: Path) -> None:
    completions = ["hang" if i in (20, 70) else "fine" for i in range(150)]
    row = json.dumps({"note": str(tmp_path / "note")})
    spec = {"name": "busy", "type": "python", "deadline_s": 8, "params": {"source": BUSY}}
    kinds = [one["kind"] for (one,) in rft.grade_rows([spec], [row] * 150, completions)]
    assert [i for i, kind in enumerate(kinds) if kind == "timeout"] == [20, 70] and kinds.count("score") == 148
    (first, one), (second, other) = (line.split() for line in (tmp_path / "note").read_text().splitlines())
    assert float(second) - float(first) < 8  # one after the other: the second starts when the first one's time is over
    assert not any(Path(f"/proc/{pid}").exists() for pid in (one, other))


LISTED = """
import os

def listed(completions, note):
    with open(note[0], "a") as file:
        file.write(f"{len(completions)} {os.getpid()}\\n")
    while "hang" in completions:
        pass
    return [0.5] * len(completions)
"""


def test_the_items_of_a_call_that_hangs_are_tried_alone_before_its_deadline(tmp_path: Path) -> None:
    (tmp_path / "listed.py").write_text(LISTED)
    completions = ["hang" if i == 170 else "fine" for i in range(200)]
    row = json.dumps({"note": str(tmp_path / "note")})
    spec = {"name": "listed", "type": "python", "deadline_s": 8,
            "params": {"function": f"{tmp_path / 'listed.py'}:listed", "style": "batch"}}
    start = time.monotonic()
    kinds = [one["kind"] for (one,) in rft.grade_rows([spec], [row] * 200, completions)]
    assert time.monotonic() - start < 15  # not twice the deadline
    assert [i for i, kind in enumerate(kinds) if kind == "timeout"] == [170] and kinds.count("score") == 199
    calls = [line.split() for line in (tmp_path / "note").read_text().splitlines()]
    sizes = [int(size) for size, _ in calls]
    assert max(sizes) > 1 and sizes.count(1) >= 2
    assert not any(Path(f"/proc/{pid}").exists() for _, pid in calls)
