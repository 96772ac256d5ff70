"""`rft data`: datasets that rft can generate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Generate the data of a built-in task.")


@app.callback()
def group() -> None:
    """Keeps `arithmetic` a command of its own."""


@app.command()
def arithmetic(
    out: Annotated[Path, typer.Option(help="Folder for train.jsonl and heldout.jsonl.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    train: Annotated[int, typer.Option(min=1, help="Training rows.")] = 600,
    heldout: Annotated[int, typer.Option(min=1, help="Held-out rows, none of them in training.")] = 80,
    shots: Annotated[int, typer.Option(min=0, max=2, help="Solved examples in front of each question.")] = 2,
    kinds: Annotated[str, typer.Option(help="Comma-separated: sum, larger.")] = "sum,larger",
) -> None:
    """Short questions with one number as the answer, to be given as <answer>N</answer>."""
    from rft.tasks.arithmetic import generate

    for path in generate(out, seed, train, heldout, shots=shots, kinds=[kind.strip() for kind in kinds.split(",")]):
        typer.echo(path)
