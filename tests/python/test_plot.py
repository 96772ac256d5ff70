"""The plot, the last screen and summary.json, from a run folder's files alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from rft import report
from rft.events import EventWriter
from rft.plot import heldout_points, plot
from rft.run_folder import read_metrics, write_json


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Five steps as C++ writes them, and both evaluations."""
    folder = tmp_path / "run"
    folder.mkdir()
    rows = [{"step": i, "reward_mean": 0.2 + 0.1 * i, "reward_std": 0.1, "completion_length_mean": 12.0 - i, "kl_max": 1e-3 * i,
             "logprob_diff_max": 1e-4, "tokens_sampled": 640, "tokens_per_s_sampling": 1280.0, "tokens_per_s_training": 640.0} for i in range(5)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(folder / "config.json", {"name": "demo"})
    before, after = evaluations()
    write_json(folder / "eval-before.json", vars(before))
    write_json(folder / "eval-after.json", vars(after))
    write_json(folder / "summary.json", {"name": "demo", "train_seconds": 10.0, "steps": 5, "tokens_sampled": 3200, "stop_reason": "",
                                         "tokens_per_s_sampling": 1280.0, "tokens_per_s_training": 640.0, "diff_ci95": [0.4, 0.6]})
    return folder


def evaluations() -> tuple[report.Evaluation, report.Evaluation]:
    samples = [{"prompt": f"What is {i} + 1?", "completion": "<answer>1</answer>", "reward": 0.2, "grades": {}} for i in range(10)]
    return (report.Evaluation(0.25, [0.2, 0.3] * 5, {"grader/correct": 0.1}, samples),
            report.Evaluation(0.75, [0.7, 0.8] * 5, {"grader/correct": 0.8}, samples))


def test_plot_is_a_png_of_a_sensible_size(run_dir: Path) -> None:
    path = plot(run_dir)
    data = path.read_bytes()
    assert path == run_dir / "plot.png" and data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") > 1000


def test_plot_draws_what_there_is_when_columns_are_missing(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "reward_mean": 0.5}\n')
    assert plot(tmp_path, tmp_path / "x.png").stat().st_size > 5000


def test_heldout_points_are_before_during_and_after(run_dir: Path) -> None:
    rows = read_metrics(run_dir)
    rows[2]["heldout/reward_mean"] = 0.5
    assert heldout_points(rows, run_dir, [0, 1, 2, 3, 4]) == [(-1, 0.25), (2, 0.5), (4, 0.75)]


def test_a_half_written_last_line_is_left_out_and_a_broken_middle_is_named(run_dir: Path) -> None:
    path = run_dir / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"step": 5, "rew')
    assert len(read_metrics(run_dir)) == 5
    path.write_text('{"step"\n' + whole)
    with pytest.raises(ValueError, match=r"metrics.jsonl:1: not valid JSON"):
        read_metrics(run_dir)


def test_sft_counts_as_training_in_the_summary(run_dir: Path) -> None:
    assert report.complete_summary(run_dir)["train_seconds"] == 10.0
    report.complete_summary(run_dir, earlier_train_seconds=2.5)
    summary = json.loads((run_dir / "summary.json").read_text())
    assert (summary["train_seconds"], summary["sft_seconds"], summary["tokens_sampled"]) == (12.5, 2.5, 3200)


def test_the_screen_says_before_after_interval_samples_and_the_next_command(run_dir: Path) -> None:
    before, after = evaluations()
    console = Console(record=True, width=120, file=io.StringIO())
    report.show(console, run_dir, report.complete_summary(run_dir), before, after)
    text = console.export_text()
    assert "0.250 -> 0.750" in text and "95 % interval [+0.400, +0.600]" in text
    assert "What is 9 + 1?" in text and f".venv/bin/rft chat {run_dir / 'model'}" in text.replace("\n", "")


def test_an_unjudged_row_of_an_evaluation_is_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "e.json", {"reward_mean": 0.5, "rewards": [0.5, None]})
    again = report.Evaluation.read(tmp_path / "e.json")
    assert again is not None and again.rewards[0] == 0.5 and again.rewards[1] != again.rewards[1]
    assert report.Evaluation.read(tmp_path / "nothing.json") is None


def test_events_are_read_back_by_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with EventWriter(tmp_path) as writer:
        for step in range(3):
            writer.add(step, {"reward_mean": 0.5 * step, "bad": float("nan")})
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [round(event.value, 3) for event in events.Scalars("reward_mean")] == [0.0, 0.5, 1.0]
    assert events.Tags()["scalars"] == ["reward_mean"]
