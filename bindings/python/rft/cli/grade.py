"""`rft grade`: run graders over completions in a file, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rft.cli.console import stdout

Grades = list[dict[str, Any]]


def grade(
    data: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Rows with a `completion` beside their columns.")],
    run_yaml: Annotated[Path | None, typer.Option("--run", metavar="RUN.yaml", help="Use this run file's graders.")] = None,
    grader: Annotated[list[str], typer.Option("--grader", metavar="GRADER", help="TYPE:KEY=VALUE,... (for instance "
                      "'number_match:pick=first'; values may be quoted as JSON) or OpenAI's grader.json; may be "
                      "repeated.")] = [],  # noqa: B006
    json_: Annotated[bool, typer.Option("--json", help="One JSON object per completion instead of tables.")] = False,
    rows: Annotated[int, typer.Option(min=0, help="Completions shown one by one.")] = 20,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: all cores.")] = 0,
) -> None:
    """Grade completions that already exist: scores, reasons, and the time each grader takes."""
    specs = [*(specs_of_file(run_yaml) if run_yaml else []), *(parse_grader(text) for text in grader)]
    if not specs:
        raise ValueError("which graders? give --run RUN.yaml or --grader TYPE:KEY=VALUE")
    lines, completions = read_completions(data)
    from rft import _native

    grades: list[Grades] = _native.load().grade_rows(specs, lines, completions, threads=threads)
    if json_:
        for completion, given in zip(completions, grades, strict=True):
            typer.echo(json.dumps({"completion": completion, "reward": reward(specs, given), "grades": given}))
        return
    show(specs, completions, grades, rows)


def specs_of_file(path: Path) -> list[dict[str, Any]]:
    """The `graders:` section of a run file, each entry as C++ takes it. Neither the model nor the data must exist."""
    from rft import _native

    config = _native.load().RunConfig.from_file(str(path), check_paths=False)
    graders = config.get("graders")
    if not graders:
        raise ValueError(f"{path}: graders: missing or empty")
    return [make_spec(entry, config.get("base_dir")) for entry in graders]


def make_spec(entry: dict[str, Any], base_dir: str) -> dict[str, Any]:
    """Splits an entry into the fields every grader has and the parameters of its type (texts, as YAML scalars are)."""
    own = {key: value for key, value in entry.items() if key not in ("name", "type", "weight", "deadline_s")}
    return {"name": entry.get("name", entry["type"]), "type": entry["type"], "weight": float(entry.get("weight", 1.0)),
            "deadline_s": float(entry.get("deadline_s", 10.0)), "base_dir": base_dir,
            "params": {key: value if isinstance(value, str) else json.dumps(value) for key, value in own.items()}}


def parse_grader(text: str) -> dict[str, Any]:
    """`type:key=value,key="va,lue"` as a spec; `name`, `weight` and `deadline_s` are keys like the others. Also the path
    of OpenAI's grader JSON."""
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


def openai_spec(path: Path) -> dict[str, Any]:
    """OpenAI's grader JSON, called by its own name."""
    try:
        name = json.loads(path.read_text(encoding="utf-8")).get("name")
    except (ValueError, AttributeError):
        name = None  # C++ says what is wrong with it
    entry = {"type": "openai", "name": name if isinstance(name, str) and name else path.stem, "file": str(path.resolve())}
    return make_spec(entry, str(Path.cwd()))


def read_completions(path: Path) -> tuple[list[str], list[str]]:
    """The lines and their completions; all bad lines are reported together. A line is a row with a `completion`, or
    OpenAI's {"item": row, "sample": {"output_text": ...}}, or a row with such a `sample`."""
    lines, completions, problems = [], [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            problems.append(f"{path}:{number}: not valid JSON ({error})")
            continue
        completion = completion_of(row) if isinstance(row, dict) else None
        if not isinstance(completion, str):
            problems.append(f"{path}:{number}: needs a text field `completion` (or a `sample` with `output_text`)")
            continue
        item = row.get("item")
        lines.append(json.dumps(item) if isinstance(item, dict) and "sample" in row else line)
        completions.append(completion)
    if problems:
        raise ValueError("\n".join(problems))
    if not lines:
        raise ValueError(f"{path}: no rows")
    return lines, completions


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


def reward(specs: list[dict[str, Any]], grades: Grades) -> float | None:
    """The weighted sum, or None if a grader with weight gave no score."""
    total = 0.0
    for spec, given in zip(specs, grades, strict=True):
        if spec["weight"] == 0:
            continue
        if given["kind"] != "score":
            return None
        total += spec["weight"] * given["score"]
    return total


def show(specs: list[dict[str, Any]], completions: list[str], grades: list[Grades], rows: int) -> None:
    """A table of the first completions and one of the graders."""
    from rich.table import Table
    from rich.text import Text

    console = stdout()
    names = [spec["name"] for spec in specs]
    table = Table("completion", *names, "reward", "reasons", box=None, header_style="bold")
    for completion, given in list(zip(completions, grades, strict=True))[:rows]:
        reasons = "; ".join(f"{name}: {item['reason']}" for name, item in zip(names, given, strict=True) if item["reason"])
        total = reward(specs, given)
        cells = [f"{item['score']:.3g}" if item["kind"] == "score" else item["kind"] for item in given]
        table.add_row(Text(" ".join(completion.split())[:50]), *cells, "-" if total is None else f"{total:.3f}", Text(reasons[:80]))
    console.print(table)
    if len(completions) > rows:
        console.print(f"... and {len(completions) - rows} more\n")
    means = Table("grader", "mean", "scored", "not scored", "ms per grade", box=None, header_style="bold")
    for index, name in enumerate(names):
        given_all = [given[index] for given in grades]
        scores = [item["score"] for item in given_all if item["kind"] == "score"]
        seconds = sum(item["seconds"] for item in given_all) / len(given_all)
        means.add_row(name, f"{sum(scores) / len(scores):.4f}" if scores else "-", str(len(scores)),
                      str(len(given_all) - len(scores)), f"{1e3 * seconds:.3f}")
    rewards = [total for given in grades if (total := reward(specs, given)) is not None]
    means.add_row("reward", f"{sum(rewards) / len(rewards):.4f}" if rewards else "-", str(len(rewards)),
                  str(len(grades) - len(rewards)), "")
    console.print(means)
