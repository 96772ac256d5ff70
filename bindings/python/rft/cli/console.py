"""Shared by the commands: where people's lines go (stderr) and common option types."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the run file; may be repeated.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
ModelDir = Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="Hugging Face folder.")]
Dtype = Annotated[str, typer.Option(help="Compute type: bf16 or fp32.")]
Threads = Annotated[int, typer.Option(help="Threads for tensor work; 0: all cores.")]


def stderr() -> Console:
    """For progress and remarks: stdout is for results."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def stdout() -> Console:
    """For results that people read."""
    from rich.console import Console

    return Console(highlight=False)
