"""`rft bench` and `rft check`: one JSON object per line on stdout, progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from rft.cli.console import stderr


def bench(
    name: Annotated[str, typer.Argument(help="Which benchmark; `list` names them.")],
    peers: Annotated[bool, typer.Option("--peers", help="Also measure what users would pick instead (`make peers` first).")] = False,
    model: Annotated[Path | None, typer.Option(help="Model folder; default: models/smollm2-135m-instruct.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved measurements of each side; medians are reported.")] = 3,
    only: Annotated[str, typer.Option(help="Only rows whose name contains this.")] = "",
) -> None:
    """Measure speed, ours and the peers', interleaved in the same run."""
    from rft.bench import BENCHES, BenchOptions, run

    _run(name, sorted(BENCHES), lambda log: run(BENCHES[name], BenchOptions(peers=peers, model=model, rounds=rounds, only=only), log))


def check(
    name: Annotated[str, typer.Argument(help="Which check; `list` names them.")],
    model: Annotated[Path | None, typer.Option(help="Model folder; default: models/smollm2-135m-instruct.")] = None,
    family: Annotated[str, typer.Option(help="Only this family of models (parity, oracle).")] = "",
    only: Annotated[str, typer.Option(help="Only rows whose name contains this.")] = "",
    oracle: Annotated[Path | None, typer.Option(help="losses: the independent implementation to compare with; oracle: the folder of the families.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="losses: seed of the cases.")] = 0,
) -> None:
    """Compare our numbers with a reference; `limit` is the most that `ours` may be.

    Exit status: 1 where a row is above its limit or is not a number, after all rows; 0 otherwise.
    """
    from rft.bench import CHECKS, BenchOptions, passed, run

    rows = _run(name, sorted(CHECKS), lambda log: run(CHECKS[name], BenchOptions(
        model=model, family=family, only=only, oracle=oracle, seed=seed), log))
    failed = [row["name"] for row in rows if not passed(row)]
    if failed:
        raise ValueError(f"{len(failed)} of {len(rows)} rows did not pass: {', '.join(failed)}")
    if not rows and name != "list":
        raise ValueError("nothing was compared: no row has such a name")


def _run(name: str, known: list[str], start: Callable[[Callable[[str], None]], Iterator[dict[str, Any]]]) -> list[dict[str, Any]]:
    if name == "list":
        for item in known:
            typer.echo(item)
        return []
    if name not in known:
        raise ValueError(f"unknown name {name!r}; known are {', '.join(known)}")
    console = stderr()
    rows = []
    for row in start(lambda line: console.print(line, style="dim", soft_wrap=True)):
        rows.append(row)
        typer.echo(json.dumps(row))
    return rows
