"""Short arithmetic questions with one number as the answer, to be given as <answer>N</answer>.

Two kinds, mixed: "What is a + b?" (a, b in 1..20) and "Which is larger, a or b?" (a, b in 1..99). Everything is drawn from
a seed; no question is in both splits. A row is one line in OpenAI chat format plus the columns `answer` and `kind`:

    {"messages": [..., {"role": "user", "content": "What is 7 + 5?"}], "answer": "12", "kind": "sum"}
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = ("sum", "larger")
MAX_TERM = 20
MAX_COMPARED = 99
SYSTEM = "Answer with one number."
Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """One question; `a` and `b` in the order they are asked."""

    kind: str
    a: int
    b: int

    @property
    def text(self) -> str:
        """What the user says."""
        return f"What is {self.a} + {self.b}?" if self.kind == "sum" else f"Which is larger, {self.a} or {self.b}?"

    @property
    def answer(self) -> int:
        """The expected number."""
        return self.a + self.b if self.kind == "sum" else max(self.a, self.b)


# Solved examples in front of every question, one of each kind.
EXAMPLES = (Question("sum", 3, 4), Question("larger", 12, 45))


def all_questions(kind: str) -> list[Question]:
    """Every question of a kind, without those of the few-shot prefix."""
    limit = MAX_TERM if kind == "sum" else MAX_COMPARED
    numbers = range(1, limit + 1)
    return [question for a in numbers for b in numbers if (kind == "sum" or a != b)
            and (question := Question(kind, a, b)) not in EXAMPLES]


def prefix(shots: int) -> list[dict[str, str]]:
    """System message and `shots` solved examples (0 to 2); without examples there is no system message either."""
    if not 0 <= shots <= 2:
        raise ValueError(f"shots is {shots}; it can be 0, 1 or 2")
    messages = [{"role": "system", "content": SYSTEM}] if shots else []
    for question in EXAMPLES[:shots]:
        messages += [{"role": "user", "content": question.text}, {"role": "assistant", "content": tagged(question.answer)}]
    return messages


def tagged(answer: int) -> str:
    """The wanted form of an answer."""
    return f"<answer>{answer}</answer>"


def make_row(question: Question, shots: int) -> Row:
    """A dataset line: the prompt's messages, the expected answer and the kind."""
    return {"messages": [*prefix(shots), {"role": "user", "content": question.text}], "answer": str(question.answer),
            "kind": question.kind}


def split(seed: int, num_train: int, num_heldout: int, kinds: Sequence[str] = KINDS) -> tuple[list[Question], list[Question]]:
    """Train and held-out questions: disjoint, the kinds in equal parts, in random order."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ValueError(f"kinds: {', '.join(unknown) or 'empty'}; known are {', '.join(KINDS)}")
    rng = random.Random(f"arithmetic/{seed}")
    train: list[Question] = []
    heldout: list[Question] = []
    for index, kind in enumerate(kinds):
        wanted_heldout = num_heldout // len(kinds) + (index < num_heldout % len(kinds))
        wanted_train = num_train // len(kinds) + (index < num_train % len(kinds))
        pool = all_questions(kind)
        if wanted_train + wanted_heldout > len(pool):
            raise ValueError(f"{wanted_train} training and {wanted_heldout} held-out questions of kind {kind!r} wanted, there "
                             f"are {len(pool)} different ones; ask for fewer rows")
        chosen = rng.sample(pool, wanted_train + wanted_heldout)
        heldout += chosen[:wanted_heldout]
        train += chosen[wanted_heldout:]
    rng.shuffle(train)
    rng.shuffle(heldout)
    return train, heldout


def generate(out: str | Path, seed: int, num_train: int, num_heldout: int, *, shots: int = 2,
             kinds: Sequence[str] = KINDS) -> tuple[Path, Path]:
    """Writes train.jsonl and heldout.jsonl into the folder `out`; the same arguments give the same bytes."""
    train, heldout = split(seed, num_train, num_heldout, kinds)
    out = Path(out)
    return (write_jsonl(out / "train.jsonl", [make_row(question, shots) for question in train]),
            write_jsonl(out / "heldout.jsonl", [make_row(question, shots) for question in heldout]))


def sft_rows(seed: int, num_rows: int, questions: Sequence[Question], *, shots: int = 0, right: float = 0.5) -> list[Row]:
    """Solved conversations for supervised training, a part of them on purpose wrong (but well-formed).

    A model trained on them knows the form and the range of the answers, yet leaves reinforcement something to find out.
    """
    rng = random.Random(f"arithmetic-sft/{seed}")
    rows = []
    for _ in range(num_rows):
        question = rng.choice(questions)
        answer = question.answer
        if rng.random() >= right:
            answer = min(question.a, question.b) if question.kind == "larger" else max(2, answer + rng.randint(-3, 3))
        messages = [*prefix(shots), {"role": "user", "content": question.text},
                    {"role": "assistant", "content": tagged(answer)}]
        rows.append({"messages": messages, "kind": question.kind})
    return rows


def write_jsonl(path: Path, rows: Sequence[Row]) -> Path:
    """One JSON object per line; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    os.replace(temporary, path)
    return path
