"""The demo, from nothing to a tuned model: get the model, generate the data, train, show one screen.

    .venv/bin/python scripts/demo.py [--seed N]           SmolLM2-135M-Instruct, about ten minutes on 2 cores
    .venv/bin/python scripts/demo.py --tiny [--seed N]    a model of a million parameters from scratch, under a minute

Each call makes a new run folder in runs/demo/ or runs/demo-tiny/. Ctrl-C finishes the step and saves (exit code 130).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from rft import smollm2
from rft.cli.train import stop_on_signals
from rft.tasks import arithmetic

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "01_arithmetic"
# The tiny model's supervised training: enough for the form of an answer and a guess at its value, not for arithmetic.
TINY_SFT_STEPS, TINY_SFT_RATE, TINY_SFT_ROWS, TINY_SFT_RIGHT = 300, 1e-3, 4096, 0.4
# Only comparisons: there are enough of them to learn something that holds for those never seen.
TINY_TRAIN, TINY_HELDOUT, TINY_KINDS = 2000, 100, ("larger",)


def main() -> int:
    """Runs the demo; the exit code is 0 unless it was interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="train a tiny model from scratch instead of SmolLM2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="where the run folders go")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as in `rft train`")
    args = parser.parse_args()
    console = Console(stderr=True, highlight=False)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    runs = args.runs.resolve() / ("demo-tiny" if args.tiny else "demo")
    run_dir, work = unused(runs / f"{stamp}-seed{args.seed}"), runs / ".work" / f"{stamp}-seed{args.seed}"
    data = work / "data"
    sft_seconds = 0.0
    if args.tiny:
        train, heldout = arithmetic.generate(data, args.seed, TINY_TRAIN, TINY_HELDOUT, shots=0, kinds=TINY_KINDS)
        model = work / "model"
        sft_seconds = make_tiny(model, train, args.seed, console)
    else:
        train, heldout = arithmetic.generate(data, args.seed, 600, 80)
        model = smollm2.get(ROOT / "models" / "smollm2-135m-instruct", log=lambda line: console.print(line, soft_wrap=True))
    return train_and_show(EXAMPLE / ("tiny.yaml" if args.tiny else "run.yaml"), [
        f"model={model}", f"data.train={train}", f"data.heldout={heldout}", f"run_dir={run_dir}", f"seed={args.seed}",
        *args.overrides], sft_seconds, console)


def make_tiny(folder: Path, train: Path, seed: int, console: Console) -> float:
    """Random weights, then SFT on half-right answers; returns the seconds spent training."""
    from rft import _native, tiny
    from rft.codec import load_codec
    from rft.sft import SftConfig, sft

    questions, _ = arithmetic.split(seed, TINY_TRAIN, TINY_HELDOUT, TINY_KINDS)
    rows = arithmetic.sft_rows(seed, TINY_SFT_ROWS, questions, right=TINY_SFT_RIGHT)
    texts = tiny.texts_of(train) + [message["content"] for row in rows for message in row["messages"]]
    base = folder.with_name("random")
    count = tiny.init(base, texts, seed=seed, hidden=192, layers=2, heads=6, kv_heads=2)
    console.print(f"made a model of {count:,} parameters; teaching it the form of an answer (SFT, {TINY_SFT_STEPS} steps)")
    native = _native.load()
    trainer = native.Trainer(native.Model.load(str(base), dtype="fp32"))
    seconds = sft(trainer, load_codec(base), [row["messages"] for row in rows],
                  SftConfig(steps=TINY_SFT_STEPS, learning_rate=TINY_SFT_RATE, seed=seed))
    trainer.save_model(str(folder))
    return seconds


def train_and_show(run_file: Path, overrides: list[str], sft_seconds: float, console: Console) -> int:
    """As `rft train`, with the SFT's seconds counted as training."""
    from rft.run import Run
    from rft.training_session import train_session

    received: list[int] = []
    with Run.from_file(run_file, overrides=overrides) as run, stop_on_signals(run, received, console):
        result = train_session(run, console=console, earlier_train_seconds=sft_seconds)
    if received:
        console.print(f"interrupted; go on with: .venv/bin/rft train --resume {run.dir}")
        return 128 + received[0]
    result.show(Console(highlight=False))
    return 0


def unused(folder: Path) -> Path:
    """`folder`, with a number behind it if two demos start within a second."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


if __name__ == "__main__":
    sys.exit(main())
