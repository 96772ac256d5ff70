"""C++ graders that read texts in a hurry give what plain Python gives: json.loads, set, Decimal, a table of all pairs."""

from __future__ import annotations

import json
import math
import random
import re
from decimal import Decimal
from typing import Any

from rft import _native
from rft.grading import make_spec


def scores(kind: str, rows: list[Any], completions: list[str], **keys: Any) -> list[float | None]:
    lines = [json.dumps({"answer": row}) for row in rows]
    graded = _native.load().grade_rows([make_spec({"type": kind, **keys}, "/")], lines, completions, 1)
    return [grades[0]["score"] for grades in graded]


def strict(text: str) -> Any:
    """json.loads without what is not JSON, or means two things: NaN, a key twice."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    def constant(name: str) -> float:
        raise ValueError(name)

    return json.loads(text, object_pairs_hook=members, parse_constant=constant)


def value(rng: random.Random, depth: int) -> Any:
    words = ["", "a", "é", "漢字", 'a "quoted" \\ text\n', "longer than sixteen bytes", "longer than sixteen bytes 漢"]
    plain = [None, True, False, 0, 1, -1, 1.0, 0.5, -2.5e-3, 1e22, 2**53 + 1, 2**63, *words]
    kind = rng.randrange(5) if depth > 0 else 0
    if kind == 1:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 2:
        return {rng.choice([*words, "b", "c", "d"]): value(rng, depth - 1) for _ in range(rng.randrange(5))}
    return rng.choice(plain)


def same(a: Any, b: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def test_json_valid_takes_what_json_loads_takes() -> None:
    rng = random.Random(1)
    texts, expected = [], []
    while len(texts) < 4000:
        text = json.dumps(value(rng, 3), ensure_ascii=rng.random() < 0.3, indent=rng.choice([None, None, 1]))
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(["", *'{}[]",:0123456789.eE+-\\/ \ntfn', "é", "\x01", "true", "1e400"]) + text[at + rng.randrange(2) :]
        if re.search(r"[eE][+-]?\d{5}", text):  # json.loads says infinity, we say that it is no number
            continue
        try:
            strict(text)
        except ValueError:
            expected.append(0.0)
        else:
            expected.append(1.0)
        texts.append(text)
    given = scores("json_valid", ["x"] * len(texts), texts)
    assert [(text, a) for text, a, b in zip(texts, given, expected) if a != b] == []
    assert 1000 < sum(expected) < 3000


def test_json_fields_counts_the_fields_that_are_equal() -> None:
    rng = random.Random(2)
    rows, texts, expected = [], [], []
    for index in range(2000):
        if index % 4 == 0:  # the same row for a group of four, as in a run
            wanted = {name: value(rng, 2) for name in ("name", "a field of many letters", "é", "b")}
        found = {name: part if rng.random() < 0.5 else value(rng, 2) for name, part in wanted.items() if rng.random() < 0.9}
        found |= {"more": value(rng, 1)} if rng.random() < 0.3 else {}
        items = list(found.items())
        rng.shuffle(items)
        rows.append(wanted)
        texts.append(json.dumps(dict(items), ensure_ascii=rng.random() < 0.5))
        expected.append(sum(name in found and same(found[name], part) for name, part in wanted.items()) / len(wanted))
    assert scores("json_fields", rows, texts) == expected


def test_set_match_is_the_f1_of_two_sets() -> None:
    rng = random.Random(3)
    words = ["oslo", "Rome", "PARIS", "new york", "a", "São Paulo", "a city of more than sixteen letters", "a city of more than sixteen Letters!"]
    rows, texts, expected = [], [], []
    for index in range(2000):
        if index % 4 == 0:
            wanted = rng.sample(words, rng.randrange(len(words)))
        found = [rng.choice(words) for _ in range(rng.randrange(12))]
        rows.append(rng.choice([", ", ";"]).join(wanted))
        texts.append(rng.choice([", ", "\n", " ; "]).join(found))
        a, b = ({word.lower() for word in items} for items in (found, wanted))
        expected.append(2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0)
    assert scores("set_match", rows, texts, score="f1") == expected


def test_number_match_compares_decimals() -> None:
    rng = random.Random(4)
    numbers = ["0", "7", "-7", "70", "123456789012345", "1234567890123456", "1234567890123457", "7.0", "7.5", "-0", "007", "7e1", "1e-3", "0.001"]
    rows = [rng.choice(numbers) for _ in range(1000)]
    found = [rng.choice(numbers) for _ in range(1000)]
    texts = [f"6 <answer>{rng.choice(['', ' '])}{number}{rng.choice(['', ' '])}</answer> 8" for number in found]
    expected = [float(Decimal(a) == Decimal(b)) for a, b in zip(found, rows)]
    assert scores("number_match", rows, texts, extract="<answer>(.*?)</answer>") == expected


def test_fuzzy_match_is_twice_the_common_subsequence_of_both_lengths() -> None:
    def common(a: str, b: str) -> int:
        above = [0] * (len(b) + 1)
        for x in a:
            row = [0]
            for j, y in enumerate(b):
                row.append(above[j] + 1 if x == y else max(row[j], above[j + 1]))
            above = row
        return above[-1]

    rng = random.Random(5)
    rows, texts, expected = [], [], []
    for index in range(80):
        if index % 4 == 0:
            wanted = "".join(rng.choices("abc dé" if index % 20 == 0 else "abc de", k=rng.randrange(200)))
        text = "".join(letter for letter in wanted if rng.random() < 0.8) if index % 3 else "".join(rng.choices("abx ", k=100))
        rows.append(wanted)
        texts.append(text)
        expected.append(2 * common(text, wanted) / (len(text) + len(wanted)) if text or wanted else 1.0)
    given = scores("text_similarity", rows, texts, evaluation_metric="fuzzy_match", reference="{{item.answer}}")
    assert all(math.isclose(a, b, abs_tol=1e-12) for a, b in zip(given, expected))
