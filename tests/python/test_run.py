"""Whole runs on a tiny model: the ten lines, the command, interruption and resuming."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import rft
from rft import _native
from rft.run_folder import read_json, read_metrics
from rft.tasks import arithmetic


@rft.grader
def digits(completion: str) -> float:
    return min(1.0, sum(c.isdigit() for c in completion) / 4)


@pytest.fixture
def run_file(llama_dir: Path, tmp_path: Path) -> Path:
    """Three steps on an untrained model: rewards are for printing digits, so that there is something to learn."""
    train, heldout = arithmetic.generate(tmp_path / "data", 0, 64, 8, shots=0)
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({
        "name": "test", "model": str(llama_dir), "run_dir": str(tmp_path / "run"), "data": {"train": str(train), "heldout": str(heldout)},
        "graders": [{"name": "any", "type": "regex_match", "pattern": "[0-9]", "weight": 1.0}],
        "rollout": {"prompts_per_step": 4, "group_size": 4, "max_tokens": 8},
        "trainer": {"steps": 3, "dtype": "fp32", "learning_rate": 1e-3}}))
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from rft.cli import main; main()", *map(str, arguments)]


def test_the_ten_lines_run_and_save_a_model_transformers_loads(run_file: Path, tmp_path: Path) -> None:
    run = rft.Run.from_file(run_file, graders=[digits])
    reports = list(run)
    assert [report.index for report in reports] == [0, 1, 2]
    assert all(math.isfinite(report.reward_mean) and math.isfinite(report.kl_max) for report in reports)
    run.save(tmp_path / "final")
    run.finish()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "final")
    assert model.config.vocab_size >= len(AutoTokenizer.from_pretrained(tmp_path / "final"))


@pytest.mark.parametrize(("given", "error", "message"), [
    ({"graders": digits}, TypeError, r"graders: expected a list such as graders=\[digits\], got one function"),
    ({"overrides": "trainer.steps=1"}, TypeError, r'overrides: expected a list such as \["trainer.steps=10"\]'),
    ({"overrides": {"trainer.steps": 1}}, TypeError, "overrides: expected a list"),
    ({"overrides": ["trainer.stepz=1"]}, rft.ConfigError, r"^overrides: trainer.stepz: unknown key; did you mean trainer.steps\?"),
    ({"overrides": ["trainer.steps"]}, rft.ConfigError, "^overrides trainer.steps: expected key=value"),
    ({"overrides": [1]}, TypeError, r"RunConfig.from_file\(\): overrides: is \[1\]; expected a list with a text each"),
    ({"overrides": ["graders=[]"]}, rft.ConfigError, r"graders: there is none; .*graders=\[function\]"),
])
def test_a_run_that_can_not_start_says_why_and_leaves_no_folder(
        given: dict[str, Any], error: type[Exception], message: str, run_file: Path, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        rft.Run.from_file(run_file, **given)
    assert not (tmp_path / "run").exists()


def test_a_path_is_no_configuration(run_file: Path) -> None:
    with pytest.raises(TypeError, match=r"config: is .*run.yaml.*; expected an rft.RunConfig \(rft.Run.from_file"):
        rft.Run(str(run_file))  # type: ignore[arg-type]


def test_what_needs_no_model_is_said_before_one_is_loaded(run_file: Path, tmp_path: Path) -> None:
    no_model = ["model=" + str(tmp_path / "data")]  # a folder, but not a model
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    config = rft.RunConfig.from_file(run_file, no_model)
    codec = rft.TextCodec(lambda messages: [1], lambda text: [1], [b"a"], [False], [0])
    for folder, message in [("run", "run_dir: .*already holds a run; go on with it"), ("other", r"(?s)train.jsonl:1: .*heldout.jsonl:2: ")]:
        (tmp_path / "data" / "train.jsonl").write_text("{}\n")
        (tmp_path / "data" / "heldout.jsonl").write_text("\n[]\n")
        config = rft.RunConfig.from_file(run_file, [*no_model, f"run_dir={tmp_path / folder}"])
        with pytest.raises(rft.Error, match=message):
            _native.Run(config, codec)
    with pytest.raises(rft.Error, match=r"rollout.regex: this text codec compiles no grammars"):
        _native.Run(rft.RunConfig.from_file(run_file, [*no_model, "run_dir=", "rollout.regex=a"]), codec)
    with pytest.raises(rft.ConfigError, match=r"graders\[any\].pattern"):
        _native.Run(rft.RunConfig.from_file(run_file, [*no_model, "run_dir=", "graders.0.pattern=("]), codec)


def test_a_grader_that_can_not_work_is_said_before_a_model_is_loaded(run_file: Path, tmp_path: Path) -> None:
    codec = rft.TextCodec(lambda messages: [1], lambda text: [1], [b"a"], [False], [0])
    (tmp_path / "mine.py").write_text("def f(completion, anwser): return 1\n")
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    for grader, message in [
            ("function: nowhere.rewards:f", r"graders\[f\]: there is no module nowhere, .*named as \"path/to/file.py:name\"$"),
            ("function: broken.py:f", r"graders\[f\]: loading the function raised ModuleNotFoundError: No module named 'no_such_package'\n"
                                    r"  \S*broken.py:1 in <module>: import no_such_package$"),
            ("source: 'def grades(sample, item): return 1'", r"graders\[python\]: the source defines no function grade\(sample, item\)$"),
            ("function: mine.py:f", r"graders\[f\]: no row of \S*train.jsonl has a column \"anwser\"; did you mean answer\? "
                                    r"\(columns: answer, kind\)\n.*heldout.jsonl")]:
        config = rft.RunConfig.from_file(run_file, [f"model={tmp_path / 'data'}", f"graders=[{{type: python, {grader}}}]"])
        with pytest.raises(rft.Error, match=message):
            _native.Run(config, codec)
    assert not (tmp_path / "run").exists()


def test_a_marked_grader_is_checked_where_it_is_marked() -> None:
    with pytest.raises(ValueError, match="style: 'grp' is not one of auto, completion, batch, group"):
        rft.grader(style="grp")(lambda completion: 1.0)
    for deadline in (0, -1, math.nan):
        with pytest.raises(ValueError, match="deadline_s: .*seconds above 0"):
            rft.grader(deadline_s=deadline)(lambda completion: 1.0)


def test_a_misspelt_name_of_the_package_suggests_the_right_one() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Trainerr'; did you mean Trainer"):
        rft.Trainerr  # noqa: B018


def test_repr_says_where_the_run_is(run_file: Path) -> None:
    with rft.Run.from_file(run_file) as run:
        next(iter(run))
        assert "step 1/3" in repr(run) and str(run.dir) in repr(run)
        assert "<table>" in run._repr_html_() and "reward_mean" in run._repr_html_()


def test_train_ends_with_one_screen_a_summary_and_a_plot(run_file: Path) -> None:
    done = subprocess.run(command("train", run_file), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    folder = run_file.parent / "run"
    summary = read_json(folder / "summary.json")
    assert summary["steps"] == 3 and len(summary["diff_ci95"]) == 2 and summary["tokens_sampled"] > 0
    assert {"before", "after", "train_seconds", "tokens_per_s_sampling", "tokens_per_s_training", "logprob_diff_max"} <= set(summary)
    assert summary["logprob_diff_max"] == 0.0
    assert (folder / "plot.png").stat().st_size > 10_000 and (folder / "model" / "model.safetensors").is_file()
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    text = done.stdout.replace("\n", "")
    assert "95 % interval" in text and f"rft chat {folder / 'model'}" in text


def test_an_unknown_key_is_reported_with_file_and_line(run_file: Path) -> None:
    run_file.write_text("model: m\nlosses:\n  clip_hihg: 1\n")
    done = subprocess.run(command("train", run_file), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and "run.yaml:3: losses.clip_hihg" in done.stderr and "Traceback" not in done.stderr


def children(pid: int) -> set[int]:
    """Processes whose parent is `pid`."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.add(int(stat.parent.name))
    return found


def test_sigint_finishes_the_step_saves_leaves_no_child_and_can_be_resumed(run_file: Path) -> None:
    (run_file.parent / "slow.py").write_text("def slow(completion):\n    return 0.0\n")
    folder = run_file.parent / "run"
    process = subprocess.Popen(command("train", run_file, "--set", "trainer.steps=2000", "--set",
                                       "graders=[{type: regex_match, pattern: '[0-9]'}, {type: python, function: 'slow.py:slow', weight: 0}]"),
                               stderr=subprocess.PIPE, text=True)
    workers: set[int] = set()
    deadline = time.monotonic() + 120
    while len(read_metrics(folder)) < 2 and time.monotonic() < deadline and process.poll() is None:
        workers |= children(process.pid)
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert workers and not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert "--resume" in errors
    done_steps = len(read_metrics(folder))
    assert 2 <= done_steps < 2000
    resumed = subprocess.run(command("train", "--resume", folder, "--set", f"trainer.steps={done_steps + 1}"), capture_output=True,
                             text=True, timeout=300, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert len(read_metrics(folder)) == done_steps + 1


def test_eval_reads_a_run_folder_and_prints_json(run_file: Path) -> None:
    subprocess.run(command("train", run_file, "--quiet"), check=True, capture_output=True, timeout=300)
    done = subprocess.run(command("eval", run_file.parent / "run", "--json"), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["num_rows"] == 8 and result["ci95"][0] <= result["reward_mean"] <= result["ci95"][1]


def test_generate_is_the_same_for_the_same_seed(llama_dir: Path) -> None:
    texts = [subprocess.run(command("generate", llama_dir, "What is 1 + 2?", "--max-tokens", 12, "--seed", seed), check=True,
                            capture_output=True, timeout=120).stdout for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_chat_answers_several_turns(llama_dir: Path) -> None:
    done = subprocess.run(command("chat", llama_dir, "--max-tokens", 8), input="hello\nand again\n/reset\nonce more\n\n", text=True,
                          capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("tokens/s") == 3


def test_every_example_run_file_is_read(llama_dir: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    files = sorted((root / "examples").glob("*/*.yaml"))
    assert files
    for path in files:
        config = rft.RunConfig.from_file(str(path), check_paths=False)
        assert config.get("graders"), path


def test_the_notebook_learns_what_it_shows(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    path = Path(__file__).resolve().parents[2] / "examples" / "notebooks" / "01_first_run.ipynb"
    notebook = nbformat.read(path, as_version=4)

    def rewards() -> tuple[float, float]:
        printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
        before, after = re.findall(r"held-out reward (\S+) -> (\S+)", printed)[0]
        return float(before), float(after)

    shown = rewards()
    os.environ.setdefault("IPYTHONDIR", str(tmp_path / "ipython"))
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    for before, after in (shown, rewards()):
        assert before < 0.6 and after > 0.8
    assert not re.search(r"/(tmp|home|root|work)/|python3\.\d+/", path.read_text())


def test_the_one_file_loop_runs(llama_dir: Path, tmp_path: Path) -> None:
    train, _ = arithmetic.generate(tmp_path, 0, 40, 2, shots=0)
    script = Path(__file__).resolve().parents[2] / "examples" / "one_file_loop.py"
    done = subprocess.run([sys.executable, str(script), str(llama_dir), str(train), "--steps", "2", "--max-tokens", "6"],
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step ") == 2
