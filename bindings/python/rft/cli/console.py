"""Shared by the commands: where people's lines go (stderr) and common option types."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rft._rft import RunConfig

Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the run file; may be repeated.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
ModelDir = Annotated[Path, typer.Argument(metavar="MODEL_DIR", help="Hugging Face folder.")]
Dtype = Annotated[str, typer.Option(help="Compute type: bf16, fp32, or int8 (bf16 with int8 weights, not for training).")]
Threads = Annotated[int, typer.Option(help="Threads for tensor work; 0: all cores.")]
Judges = Annotated[list[str], typer.Option("--judge", metavar="NAME=MODEL_DIR", help="Load this model for graders with "
                                           "`generator: NAME` (llm_judge); may be repeated.")]


def read_config(path: str | Path, overrides: Sequence[str]) -> RunConfig:
    """A run file with what --set changes of it, which messages then name."""
    from rft import _native

    config: RunConfig = _native.load().RunConfig.from_file(path, list(overrides), overrides_from="--set")
    return config


@contextlib.contextmanager
def open_judges(judges: Sequence[str], threads: int = 0) -> Iterator[None]:
    """The models of --judge, for as long as the block runs."""
    from rft.graders import judge

    with contextlib.ExitStack() as stack:
        for text in judges:
            name, equals, folder = text.partition("=")
            if not equals or not name or not Path(folder).is_dir():
                raise ValueError(f"--judge {text}: write NAME=MODEL_DIR, with a model's folder")
            stack.enter_context(judge(name, folder, threads=threads))
        yield


def stderr() -> Console:
    """For progress and remarks: stdout is for results."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def stdout() -> Console:
    """For results that people read."""
    from rich.console import Console

    return Console(highlight=False)
