"""OpenAI's grader JSON, run by `rft grade` and by a run file, with Python graders among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rft import _native
from rft.cli.app import app

# From OpenAI's guide, "Python graders", without rapidfuzz.
PYTHON = {
    "type": "python", "name": "prefix", "image_tag": "2025-05-08",
    "source": "import os.path\n\ndef grade(sample, item) -> float:\n"
              "    common = os.path.commonprefix([sample['output_text'], item['reference_answer']])\n"
              "    return len(common) / len(item['reference_answer'])\n",
}


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def write(path: Path, *values: Any) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def grade(grader: dict[str, Any], completion: str, **row: Any) -> dict[str, Any]:
    spec = {"type": "openai", "params": {"grader": grader}}
    return _native.load().grade_rows([spec], [json.dumps(row)], [completion])[0][0]


def test_rft_grade_runs_a_grader_file_over_openai_items_and_samples(tmp_path: Path) -> None:
    grader = {"type": "multi", "calculate_output": "0.25 * exact + 0.75 * prefix",
              "graders": {"prefix": PYTHON, "exact": {"type": "string_check", "name": "exact", "operation": "eq",
                                                      "input": "{{sample.output_text}}", "reference": "{{item.reference_answer}}"}}}
    (tmp_path / "grader.json").write_text(json.dumps(grader))
    data = write(tmp_path / "data.jsonl", {"item": {"reference_answer": "Paris"}, "sample": {"output_text": "Paris"}},
                 {"reference_answer": "Paris!", "completion": "Par"})
    lines = run("grade", "--grader", tmp_path / "grader.json", data, "--json").splitlines()
    assert [json.loads(line)["reward"] for line in lines] == [1.0, 0.375]
    assert json.loads(lines[1])["grades"][0]["sub_scores"] == {"exact": 0.0, "prefix": 0.5}
    assert "0.6875" in run("grade", "--grader", tmp_path / "grader.json", data)


def test_tool_calls_of_a_sample_reach_the_grader_as_the_service_gives_them(tmp_path: Path) -> None:
    source = ("def grade(sample, item):\n    call = sample['output_tools'][0]\n"
              "    assert call == sample['choices'][0]['message']['tool_calls'][0] and call['type'] == 'function'\n"
              "    assert sample['output_text'] == 'Looking.' and sample['output_json'] is None\n"
              "    return float(call['function'] == {'name': 'find', 'arguments': item['arguments']})\n")
    (tmp_path / "tools.json").write_text(json.dumps({"type": "python", "source": source}))
    arguments = '{"q":  "a b",\n "n": [1, 2]}'
    sample = {"output_text": "Looking.", "output_tools": [{"function": {"name": "find", "arguments": arguments}}]}
    data = write(tmp_path / "data.jsonl", {"item": {"arguments": arguments}, "sample": sample})
    assert json.loads(run("grade", "--grader", tmp_path / "tools.json", data, "--json"))["reward"] == 1.0


def test_output_json_is_the_parsed_completion() -> None:
    grader = {"type": "python", "source": "def grade(s, i):\n    return s['output_json']['total'] / i['of']"}
    assert grade(grader, '{"total": 3}', of=4)["score"] == 0.75


@pytest.mark.parametrize(("source", "reason"), [
    ("def grade(sample, item):\n    return None", "grade returned None"),
    ("def grade(sample, item):\n    return item['x']", "grade raised KeyError: 'x'\n  <source>:2 in grade: return item['x']"),
    ("def grade(sample, item):\n    return 'good'", "grade returned str ('good'), not a number"),
])
def test_a_python_grader_that_fails_gives_no_score(source: str, reason: str) -> None:
    given = grade({"type": "python", "source": source}, "text")
    assert given["score"] is None and given["reason"].startswith(reason)


def test_a_python_grader_without_grade_is_refused_before_anything_is_graded() -> None:
    with pytest.raises(RuntimeError, match=r"the source defines no function grade\(sample, item\)"):
        grade({"type": "python", "source": "def score(sample, item): return 1"}, "text")


def test_a_run_file_takes_the_json_by_path_or_inline(tmp_path: Path) -> None:
    write(tmp_path / "grader.json", {"type": "string_check", "operation": "like", "input": "{{sample.output_text}}",
                                     "reference": "{{item.answer}}"})
    (tmp_path / "run.yaml").write_text(
        "model: nowhere\ndata: {train: nowhere.jsonl}\ngraders:\n"
        "  - {type: openai, name: from_file, file: grader.json}\n"
        "  - type: openai\n    name: inline\n    weight: 0.5\n    grader:\n      type: multi\n"
        "      calculate_output: min(a, 1)\n"
        "      graders:\n        a: {type: string_check, operation: ne, input: x, reference: '{{item.answer}}'}\n")
    data = write(tmp_path / "data.jsonl", {"answer": "7", "completion": "it is 7"})
    assert json.loads(run("grade", data, "--run", tmp_path / "run.yaml", "--json"))["reward"] == 1.5


def test_mistakes_of_the_json_are_the_services_messages(tmp_path: Path) -> None:
    write(tmp_path / "grader.json", {"type": "string_check", "operation": "is", "input": "x", "reference": "y"})
    text = run("grade", "--grader", tmp_path / "grader.json", write(tmp_path / "d.jsonl", {"completion": ""}), code=1)
    assert "grader.operation: Invalid value: 'is'. Supported values are: 'eq', 'ne', 'like', and 'ilike'." in text
