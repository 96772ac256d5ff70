"""`rft plot`: the curves of a run as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plot(run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run.")],
         out: Annotated[Path | None, typer.Option(help="Where to write it; default: RUN_DIR/plot.png.")] = None) -> None:
    """Draw reward, completion length, policy change and speed of a run."""
    from rft.plot import plot as draw

    typer.echo(draw(run_dir, out))
