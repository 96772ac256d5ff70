"""`rft distill`: on-policy distillation from a run file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rft.cli.console import Quiet, Set


def distill(
    run_yaml: Annotated[Path | None, typer.Argument(metavar="[RUN.yaml]", help="Student (model), distill.teachers, rollout, trainer.")] = None,
    set_: Set = [],  # noqa: B006 - typer reads the default, nothing changes it
    resume: Annotated[Path | None, typer.Option(metavar="RUN_DIR", help="Go on with this run from its last checkpoint.")] = None,
    quiet: Quiet = False,
) -> None:
    """Learn from teachers on what the student says itself: the sampled tokens, or each teacher's top tokens (distill.objective)."""
    from rft.cli.dpo import run

    run(run_yaml, "distill", list(set_), resume, quiet)
