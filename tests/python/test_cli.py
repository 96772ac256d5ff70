"""The command line: what works without a model, and what its errors say."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rft.cli import app

runner = CliRunner()


def invoke(*arguments: object, code: int = 0) -> str:
    """Runs a command in this process; returns stdout and stderr together."""
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_help_names_every_command() -> None:
    text = invoke("--help")
    for name in ("train", "eval", "generate", "chat", "serve", "grade", "plot", "doctor", "data", "model", "sft", "config", "bench", "check", "version"):
        assert name in text


def test_help_has_no_box_for_commands_without_a_place() -> None:
    boxes = [line.split("─ ")[1].split(" ─")[0] for line in invoke("--help").splitlines() if line.startswith("╭")]
    assert boxes == ["Options", "Train and evaluate", "Models and data", "Look and measure"]


def test_help_answers_at_once_and_loads_no_torch() -> None:
    code = "import sys\nfrom rft.cli import main\ntry:\n    main()\nfinally:\n    assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    # 0.1 s on an idle core; the allowance is for a machine that is compiling at the same time.
    assert min(times) < 2.0


def test_the_worker_module_loads_neither_torch_nor_the_extension() -> None:
    code = "import sys, rft, rft._worker; assert not {'torch', 'rft._rft', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version_is_the_packages() -> None:
    import rft

    assert rft.__version__ in invoke("version")


def test_data_writes_both_files_and_says_where(tmp_path: Path) -> None:
    text = invoke("data", "arithmetic", "--seed", 1, "--train", 20, "--heldout", 6, "--out", tmp_path)
    assert "train.jsonl" in text.replace("\n", "")
    assert len((tmp_path / "heldout.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize(("arguments", "message"), [
    (["train"], "which run?"),
    (["train", "nothing.yaml"], "nothing.yaml: no such run file"),
    (["data", "arithmetic", "--kinds", "product", "--out", "x"], "known are sum, larger"),
    (["plot", "nowhere"], "nowhere/metrics.jsonl: missing or empty"),
    (["model", "get", "gpt5"], "unknown model 'gpt5'"),
    (["bench", "nothing"], "known are engine, "),
    (["check", "nothing"], "known are adapters, http-peer, losses, memory, model, oracle, parity, trl"),
    (["eval", "nowhere"], "neither a model folder nor a run folder"),
])
def test_a_mistake_is_one_clean_message_and_exit_code_1(arguments: list[str], message: str, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = invoke(*arguments, code=1)
    assert message in text and text.startswith("error: ")
    assert "Traceback" not in text


def test_serve_says_before_it_loads_a_model_what_is_wrong_around_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}: another program listens there" in invoke("serve", tmp_path, "--port", port, code=1)
    assert "--lora x=nowhere: there is no folder nowhere" in invoke("serve", tmp_path, "--lora", "x=nowhere", code=1)


@pytest.mark.parametrize("command", ["train", "sft", "dpo", "distill", "config check"])
def test_mistakes_of_set_are_said_to_be_its(command: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: m\n")
    assert "--set: trainer.stepz: unknown key" in invoke(*command.split(), path, "--set", "trainer.stepz=1", code=1)


def test_debug_lets_the_exception_through(tmp_path: Path) -> None:
    result = runner.invoke(app, ["--debug", "plot", str(tmp_path)])
    assert isinstance(result.exception, FileNotFoundError)


def test_an_unknown_command_suggests_the_right_one() -> None:
    assert "train" in invoke("frain", code=2)


def grade_file(folder: Path, rows: list[object]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_grade_reports_every_bad_line(tmp_path: Path) -> None:
    path = grade_file(tmp_path, [{"completion": "ok"}, "{broken", {"answer": "1"}, [1]])
    text = invoke("grade", path, "--grader", "regex_match:pattern=o", code=1).replace("\n", "")
    assert "rows.jsonl:2: not valid JSON" in text
    assert "rows.jsonl:3: needs a text field `completion`" in text and "rows.jsonl:4:" in text


def test_grade_needs_a_grader(tmp_path: Path) -> None:
    assert "which graders?" in invoke("grade", grade_file(tmp_path, [{"completion": ""}]), code=1)


def test_grade_scores_completions_without_a_model(tmp_path: Path) -> None:
    rows = [{"answer": "7", "completion": "It is 7"}, {"answer": "8", "completion": "7"}]
    lines = invoke("grade", grade_file(tmp_path, rows), "--grader", "number_match:weight=2", "--json").splitlines()
    assert [json.loads(line)["reward"] for line in lines] == [2.0, 0.0]


def test_grade_shows_reasons_and_means(tmp_path: Path) -> None:
    path = grade_file(tmp_path, [{"answer": "7", "completion": "<answer>7</answer>"}, {"answer": "8", "completion": "none"}])
    text = invoke("grade", path, "--grader", r'number_match:name=correct,extract="<answer>(\\d+)</answer>"')
    assert "correct" in text and "no number found" in text and "0.5000" in text


def test_grade_uses_the_graders_of_a_run_file_and_a_python_grader(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def length(completion):\n    return len(completion) / 10\n")
    (tmp_path / "run.yaml").write_text("model: nowhere\ndata: {train: nowhere.jsonl}\ngraders:\n"
                                       "  - {type: python, name: length, function: 'mine.py:length', weight: 0.5}\n")
    out = invoke("grade", grade_file(tmp_path, [{"completion": "abcde"}]), "--run", tmp_path / "run.yaml", "--json")
    assert json.loads(out)["reward"] == pytest.approx(0.25)


def test_a_grader_that_fails_everywhere_is_quoted_in_full_and_ends_with_code_1(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def typo(completion, anwser):\n    return 1.0\n\n\n"
                                      "def half(completion, answer):\n    return 1.0 / len(completion)\n")
    path = grade_file(tmp_path, [{"answer": "7", "completion": "7"}, {"answer": "8", "completion": ""}])
    text = invoke("grade", path, "--grader", f"python:function={tmp_path}/mine.py:typo", code=1).replace("\n", "")
    assert "python: 2 of 2 not scored: error: typo asks for 'anwser'" in text and "columns" in text
    text = invoke("grade", path, "--grader", f"python:function={tmp_path}/mine.py:half")
    assert "python: 1 of 2 not scored: error: half raised ZeroDivisionError" in text.replace("\n", "")


def test_an_unknown_grader_lists_the_known_ones(tmp_path: Path) -> None:
    assert "number_match" in invoke("grade", grade_file(tmp_path, [{"completion": ""}]), "--grader", "nomber_match", code=1)


def test_a_run_files_mistakes_are_all_reported_with_their_lines(tmp_path: Path) -> None:
    run = tmp_path / "run.yaml"
    run.write_text("model: m\ndata:\n  train: t.jsonl\nlosses:\n  clip_hihg: 0.3\ntrainer:\n  steps: many\n")
    text = invoke("config", "check", run, code=1).replace("\n", "")
    assert "run.yaml:5: losses.clip_hihg: unknown key; did you mean losses.clip_high?" in text
    assert "run.yaml:7: trainer.steps" in text


def test_doctor_names_the_kernels_that_would_be_used() -> None:
    text = runner.invoke(app, ["doctor"]).output
    assert "kernels" in text and "threads" in text
