"""`rft replay`: the batch of a step that was given up because of NaN or infinity, computed again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rft.cli.console import stderr


def replay(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run of rft train, sft, dpo or distill.")],
    step: Annotated[int | None, typer.Option(help="Which step; default: the first that was given up.")] = None,
) -> None:
    """Find the row behind a step that was skipped: the batch as a whole, then each row by itself, one JSON object per line.

    Uses the run's newest checkpoint from before that step.
    """
    from rft.replay import batches_of, replay, trainer_of

    if not (run_dir / "config.json").is_file():
        raise FileNotFoundError(f"{run_dir}: not a run folder; it has no config.json")
    batches = batches_of(run_dir)
    if not batches:
        raise ValueError(f"{run_dir}: no step was given up because of NaN or infinity")
    if step is None:
        step = min(batches)
    if step not in batches:
        raise ValueError(f"--step {step}: was not given up; these were: {', '.join(map(str, sorted(batches)))}")
    trainer, at = trainer_of(run_dir, batches[step])
    stderr().print(f"step {step}, with the weights after {at} steps", style="dim")
    for row in replay(trainer, batches[step].calls):
        typer.echo(json.dumps(row))
