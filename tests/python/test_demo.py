"""`make demo TINY=1`, shortened: from nothing to a tuned model and its summary."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rft.run_folder import read_json

DEMO = Path(__file__).resolve().parents[2] / "scripts" / "demo.py"


def demo(runs: Path, *arguments: str) -> Path:
    """Runs the tiny demo; returns its run folder."""
    done = subprocess.run([sys.executable, str(DEMO), "--tiny", "--runs", str(runs), *arguments], capture_output=True, text=True,
                          timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "chat with it" in done.stdout
    (folder,) = (path for path in (runs / "demo-tiny").iterdir() if path.name != ".work")
    return folder


def test_the_tiny_demo_trains_evaluates_and_leaves_a_model(tmp_path: Path) -> None:
    folder = demo(tmp_path, "--seed", "3", "--set", "trainer.steps=3")
    summary = read_json(folder / "summary.json")
    assert summary["steps"] == 3 and summary["seed"] == 3
    assert 0 < summary["sft_seconds"] < summary["train_seconds"]
    assert 0.4 < summary["before"] < 0.9 and len(summary["diff_ci95"]) == 2
    assert (folder / "plot.png").is_file() and (folder / "model" / "tokenizer.json").is_file()
