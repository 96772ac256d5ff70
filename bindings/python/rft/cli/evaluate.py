"""`rft eval`: mean reward of a model on a JSONL, with the graders of a run file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rft.cli.console import Quiet, Set, read_config, stderr, stdout


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL_DIR|RUN_DIR", help="A model folder, or a run folder (its tuned model).")],
    data: Annotated[Path | None, typer.Option("--data", help="JSONL to evaluate on; default: data.heldout of the run file.")] = None,
    run_yaml: Annotated[Path | None, typer.Option("--run", metavar="RUN.yaml", help="Where the graders and the sampling come "
                                                  "from; default: the run folder's own.")] = None,
    set_: Set = [],  # noqa: B006 - typer reads the default, nothing changes it
    json_: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
    quiet: Quiet = False,
) -> None:
    """Grade a model's completions for every row of a dataset; prints means with a 95 % interval."""
    source, folder = resolve(model, run_yaml)
    import tempfile

    from rft.report import Evaluation
    from rft.run import Run

    with tempfile.TemporaryDirectory(prefix="rft-eval-") as scratch:
        overrides = [f"model={folder.resolve()}", f"run_dir={scratch}/run", *set_]
        if data is not None:
            overrides.append(f"data.heldout={data.resolve()}")
        run = Run(read_config(source, overrides))
        with stderr().status("evaluating") if not quiet else _nothing():
            evaluation = Evaluation.of(run.evaluate())
        run.close()
    low, high = interval(evaluation.rewards)
    result: dict[str, Any] = {"model": str(folder), "reward_mean": evaluation.reward_mean, "ci95": [low, high],
                              "num_rows": len(evaluation.rewards), **evaluation.metrics}
    if json_:
        typer.echo(json.dumps(result))
        return
    from rich.table import Table

    table = Table("", "mean", box=None, header_style="bold")
    table.add_row("reward", f"{evaluation.reward_mean:.4f}   95 % interval [{low:.4f}, {high:.4f}], {len(evaluation.rewards)} rows")
    for name, value in sorted(evaluation.metrics.items()):
        table.add_row(name, f"{value:.4f}")
    stdout().print(table)


def resolve(model: Path, run_yaml: Path | None) -> tuple[Path, Path]:
    """(configuration, model folder) for a model folder with a run file, or for a run folder."""
    own = model / "config.json"
    if not own.is_file():
        raise FileNotFoundError(f"{own}: missing; {model} is neither a model folder nor a run folder")
    if "model_type" in json.loads(own.read_text()):
        if run_yaml is None:
            raise ValueError(f"{model} is a model folder: say with --run RUN.yaml which graders to use")
        return run_yaml, model
    tuned = model / "model"
    if not tuned.is_dir():
        raise FileNotFoundError(f"{tuned}: missing; the run has not finished (go on with `rft train --resume {model}`)")
    return run_yaml or own, tuned


def interval(rewards: list[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean: the paired one against zero."""
    from rft.stats import paired_bootstrap

    difference = paired_bootstrap([0.0 if value == value else value for value in rewards], rewards)
    return difference.low, difference.high


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()
