"""`rft config`: what a run file can say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rft.cli.console import Set, read_config

app = typer.Typer(no_args_is_help=True, help="The run file: its keys, its schema, a check.")


@app.command()
def docs() -> None:
    """Every key with default, range and meaning, as Markdown."""
    from rft import _native

    typer.echo(_native.load().RunConfig.docs())


@app.command()
def schema() -> None:
    """JSON schema of run.yaml, for editors."""
    from rft import _native

    typer.echo(_native.load().RunConfig.schema())


@app.command()
def check(file: Annotated[Path, typer.Argument(metavar="RUN.yaml")], set_: Set = [],  # noqa: B006 - as in train
          resolved: Annotated[bool, typer.Option("--resolved", help="Print the whole resolved configuration.")] = False) -> None:
    """Read a run file and report every mistake with file and line."""
    config = read_config(file, set_)
    typer.echo(config.to_json() if resolved else f"{file}: good")
