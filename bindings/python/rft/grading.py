"""Grading completions without training: specs from files and texts, rows with and without completions, rewards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Spec = dict[str, Any]
Grades = list[dict[str, Any]]  # of one completion, one per grader


@dataclass
class Example:
    """A line of a dataset and what a model wrote for it."""

    line: str
    completion: str | None = None
    token_ids: list[int] | None = None
    group: int = 0  # completions of one row have the same

    @property
    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = json.loads(self.line)
        return row


def specs_of_file(path: Path) -> list[Spec]:
    """The `graders:` section of a run file, each entry as C++ takes it. Neither the model nor the data must exist."""
    from rft import _native

    config = _native.load().RunConfig.from_file(str(path), check_paths=False)
    graders = config.get("graders")
    if not graders:
        raise ValueError(f"{path}: graders: missing or empty")
    return [make_spec(entry, config.get("base_dir")) for entry in graders]


def make_spec(entry: dict[str, Any], base_dir: str) -> Spec:
    """Splits an entry into the fields every grader has and the parameters of its type (texts, as YAML scalars are)."""
    own = {key: value for key, value in entry.items() if key not in ("name", "type", "weight", "deadline_s")}
    return {"name": entry.get("name", entry["type"]), "type": entry["type"], "weight": float(entry.get("weight", 1.0)),
            "deadline_s": float(entry.get("deadline_s", 10.0)), "base_dir": base_dir,
            "params": {key: value if isinstance(value, str) else json.dumps(value) for key, value in own.items()}}


def parse_grader(text: str) -> Spec:
    """`type:key=value,key="va,lue"` as a spec; `name`, `weight` and so on are keys like the others. Also the path of OpenAI's
    grader JSON."""
    if text.endswith(".json"):
        return openai_spec(Path(text))
    kind, _, rest = text.partition(":")
    entry: dict[str, Any] = {"type": kind.strip()}
    while rest:
        key, equals, rest = rest.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"--grader {text}: expected TYPE:KEY=VALUE,..., got {key!r} without a value")
        if rest.startswith('"'):
            try:
                value, end = json.JSONDecoder().raw_decode(rest)
            except ValueError as error:
                raise ValueError(f"--grader {text}: {key.strip()}: not valid JSON text ({error})") from error
            rest = rest[end:].lstrip(",")
        else:
            value, _, rest = rest.partition(",")
        entry[key.strip()] = value
    return make_spec(entry, str(Path.cwd()))


def openai_spec(path: Path) -> Spec:
    """OpenAI's grader JSON, called by its own name."""
    try:
        name = json.loads(path.read_text(encoding="utf-8")).get("name")
    except (ValueError, AttributeError):
        name = None  # C++ says what is wrong with it
    entry = {"type": "openai", "name": name if isinstance(name, str) and name else path.stem, "file": str(path.resolve())}
    return make_spec(entry, str(Path.cwd()))


def read_examples(path: Path, need_completions: bool = True) -> list[Example]:
    """The rows and their completions; all bad lines are reported together. A line is a row with a `completion`, or OpenAI's
    {"item": row, "sample": {"output_text": ...}}, or a row with such a `sample`."""
    examples, problems = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            problems.append(f"{path}:{number}: not valid JSON ({error})")
            continue
        completion = completion_of(row) if isinstance(row, dict) else None
        if not isinstance(row, dict):
            problems.append(f"{path}:{number}: must be a JSON object")
        elif need_completions and not isinstance(completion, str):
            problems.append(f"{path}:{number}: needs a text field `completion` (or a `sample` with `output_text`), or a model to "
                            "write one (--model DIR)")
        else:
            item = row.get("item")
            wrapped = isinstance(item, dict) and "sample" in row
            examples.append(Example(json.dumps(item) if wrapped else line, completion if isinstance(completion, str) else None,
                                    group=len(examples)))
    if problems:
        raise ValueError("\n".join(problems))
    if not examples:
        raise ValueError(f"{path}: no rows")
    return examples


def completion_of(row: dict[str, Any]) -> Any:
    """What the model wrote; tool calls of a `sample` as models write them (see graders/sample.h)."""
    sample = row.get("sample")
    if not isinstance(sample, dict):
        return row.get("completion")
    text = sample.get("output_text")
    for call in sample.get("output_tools") or []:
        function = call["function"]
        markup = f'{{"name": {json.dumps(function["name"])}, "arguments": {function["arguments"]}}}'
        text = f"{text or ''}\n<tool_call>\n{markup}\n</tool_call>"
    return text


def sample(examples: Sequence[Example], model: Path, *, n: int = 1, temperature: float = 1.0, max_tokens: int = 64, seed: int = 0,
           threads: int = 0) -> list[Example]:
    """`n` completions of `model` for each row's messages, one after another."""
    from rft.cli.generate import open_model

    rows = [example.row for example in examples]
    without = [i for i, row in enumerate(rows) if not isinstance(row.get("messages"), list)]
    if without:
        raise ValueError(f"row {without[0] + 1} has no `messages`: a model needs a prompt to complete")
    codec, engine = open_model(model, "bf16", threads)
    try:
        prompts = [codec.encode_chat(row["messages"]) for row in rows]
        written = engine.generate(prompts, n=n, temperature=temperature, max_tokens=max_tokens, seed=seed)
    finally:
        engine.close()
    sampled = []
    for index, (example, completions) in enumerate(zip(examples, written, strict=True)):
        for completion in completions:
            ids = [int(i) for i in completion.ids]
            sampled.append(Example(example.line, codec.decode(ids), ids, index))
    return sampled


def grade(specs: Sequence[Spec], examples: Sequence[Example], threads: int = 0) -> list[Grades]:
    """One list of grades per example."""
    from rft import _native

    return _native.load().grade_rows(list(specs), [example.line for example in examples],
                                     [example.completion or "" for example in examples], threads=threads,
                                     token_ids=[example.token_ids or [] for example in examples])


def reward(specs: Sequence[Spec], grades: Grades) -> float | None:
    """The weighted sum, or None if a grader with weight gave no score (one that may abstain is left out when it does)."""
    total, scored = 0.0, False
    for spec, given in zip(specs, grades, strict=True):
        skipped = given["kind"] == "abstain" and spec.get("params", {}).get("on_abstain") == "skip"
        if spec.get("weight", 1.0) == 0 or skipped:
            continue
        if given["kind"] != "score":
            return None
        total, scored = total + spec.get("weight", 1.0) * given["score"], True
    return total if scored else None
