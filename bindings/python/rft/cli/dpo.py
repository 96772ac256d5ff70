"""`rft dpo`: preference tuning from a run file. Also what `rft sft run.yaml` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rft.cli.console import Quiet, Set, read_config, stderr


def dpo(
    run_yaml: Annotated[Path | None, typer.Argument(metavar="[RUN.yaml]", help="Model, pairs, preference.loss, trainer.")] = None,
    set_: Set = [],  # noqa: B006 - typer reads the default, nothing changes it
    resume: Annotated[Path | None, typer.Option(metavar="RUN_DIR", help="Go on with this run from its last checkpoint.")] = None,
    quiet: Quiet = False,
) -> None:
    """Tune on preferences: dpo, ipo, simpo, orpo or kto (preference.loss), the whole model or an adapter (lora:).

    Rows: messages, chosen, rejected (or OpenAI's input, preferred_output, non_preferred_output); kto: messages, completion, label.
    """
    run(run_yaml, "dpo", list(set_), resume, quiet)


def run(run_yaml: Path | None, kind: str, overrides: list[str], resume: Path | None, quiet: bool) -> None:
    """A whole fine-tuning run; Ctrl-C saves and exits with 130."""
    if run_yaml is None and resume is None:
        raise ValueError(f"which run? give a run file (rft {kind} run.yaml) or --resume RUN_DIR")
    from rft.fine_tune import FineTune

    path = run_yaml if run_yaml is not None else Path(resume or "") / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such run file")
    console = stderr()
    with console.status("loading"):
        tune = FineTune(read_config(path, overrides), kind, resume)
    console.print(f"run folder: {tune.dir}", soft_wrap=True)
    if not quiet and not resume:
        console.print(tune.memory_plan["text"], style="dim", soft_wrap=True)
    try:
        while (metrics := tune.step()) is not None:
            index, heldout = tune.step_index, metrics.get("heldout/loss")
            if metrics["skipped"]:
                console.print(f"step {index}: NaN or Inf in the gradient{f' ({tune.not_finite})' if tune.not_finite else ''}; nothing was "
                              f"changed, the batch is kept: rft replay {tune.dir}", style="yellow", soft_wrap=True)
            if not quiet and (heldout is not None or index % max(1, tune.num_steps // 20) == 0):
                console.print(f"step {index}/{tune.num_steps}  loss {metrics['loss']:.4f}  lr {metrics['learning_rate']:.2e}"
                              + (f"  held-out {heldout:.4f}" if heldout is not None else ""))
    except KeyboardInterrupt:
        tune.save()
        console.print(f"interrupted after {tune.step_index} steps; go on with: rft {kind} --resume {tune.dir}", soft_wrap=True)
        raise typer.Exit(130) from None
    summary = tune.finish()
    typer.echo(f"{tune.dir / 'model'}: {summary['stop_reason']}"
               + (f"; held-out loss {summary['best_loss']:.4f} at step {summary['best_step']}, the best" if summary["best_step"] else ""))
