"""The generated demo task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rft.tasks import arithmetic


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_train_and_heldout_share_no_question(tmp_path: Path) -> None:
    train, heldout = (read(path) for path in arithmetic.generate(tmp_path, 3, 600, 80))
    asked = {row["messages"][-1]["content"] for row in train}
    assert len(train) == len(asked) == 600 and len(heldout) == 80
    assert asked.isdisjoint(row["messages"][-1]["content"] for row in heldout)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, second, other = (arithmetic.generate(tmp_path / name, seed, 50, 10)[0].read_bytes()
                            for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first == second != other


def test_answers_are_right(tmp_path: Path) -> None:
    for row in read(arithmetic.generate(tmp_path, 0, 400, 2)[0]):
        numbers = [int(word.strip("?,")) for word in row["messages"][-1]["content"].split() if word.strip("?,").isdigit()]
        assert int(row["answer"]) == (sum(numbers) if row["kind"] == "sum" else max(numbers))


def test_kinds_come_in_equal_parts_and_no_example_is_asked() -> None:
    train, heldout = arithmetic.split(0, 300, 20)
    assert sum(question.kind == "sum" for question in train) == 150
    shown = set(arithmetic.EXAMPLES)
    assert shown.isdisjoint(train + heldout)


def test_a_row_begins_with_two_solved_examples() -> None:
    messages = arithmetic.make_row(arithmetic.Question("sum", 2, 2), shots=2)["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[2]["content"] == "<answer>7</answer>"


def test_too_many_rows_are_refused_with_the_number_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are 399 different ones"):
        arithmetic.generate(tmp_path, 0, 1000, 10)


def test_sft_rows_are_well_formed_and_partly_wrong() -> None:
    questions, _ = arithmetic.split(0, 400, 2)
    rows = arithmetic.sft_rows(0, 400, questions, right=0.5)
    text = {question.text: arithmetic.tagged(question.answer) for question in questions}
    right = sum(row["messages"][-1]["content"] == text[row["messages"][-2]["content"]] for row in rows)
    assert 150 < right < 280
    assert all(row["messages"][-1]["content"].startswith("<answer>") for row in rows)
