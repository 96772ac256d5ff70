"""`rft sft`: supervised fine-tuning on conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rft.cli.console import Dtype, Quiet, Set, Threads, stderr


def sft(
    model: Annotated[Path | None, typer.Argument(metavar="RUN.yaml|MODEL_DIR", help="A run file, or a Hugging Face folder.")] = None,
    data: Annotated[Path | None, typer.Argument(help="With a folder: JSONL of conversations that end with the assistant.")] = None,
    out: Annotated[Path | None, typer.Option(help="With a folder: where the trained model goes.")] = None,
    set_: Set = [],  # noqa: B006 - as in train
    resume: Annotated[Path | None, typer.Option(metavar="RUN_DIR", help="Go on with this run from its last checkpoint.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 100,
    rows_per_step: Annotated[int, typer.Option(min=1, help="Conversations per step.")] = 64,
    learning_rate: Annotated[float, typer.Option("--lr", min=0, help="Peak learning rate.")] = 1e-3,
    token_budget: Annotated[int, typer.Option(min=1, help="Tokens per micro-batch.")] = 8192,
    seed: Annotated[int, typer.Option(min=0, help="Order of the rows.")] = 0,
    dtype: Dtype = "bf16", threads: Threads = 0, quiet: Quiet = False,
) -> None:
    """Supervised fine-tuning: [bold]rft sft run.yaml[/bold] (every message of the assistant by its weight, evaluation, early
    stop, best checkpoint, lora:), or [bold]rft sft MODEL_DIR DATA --out DIR[/bold] (the last message of each conversation).
    """
    if resume is not None or model is None or model.suffix in (".yaml", ".yml", ".json"):
        from rft.cli.dpo import run

        return run(model, "sft", list(set_), resume, quiet)
    if data is None or out is None:
        raise ValueError("rft sft MODEL_DIR needs DATA and --out; or give a run file: rft sft run.yaml")
    from rft import _native
    from rft.codec import load_codec
    from rft.sft import SftConfig, SftStep, read_conversations
    from rft.sft import sft as run_sft

    conversations = read_conversations(data)
    native = _native.load()
    trainer = native.Trainer(native.Model.load(str(model), dtype=dtype, threads=threads))
    console = stderr()

    def show(step: SftStep) -> None:
        if not quiet and (step.index % max(1, steps // 20) == 0 or step.index == steps - 1):
            console.print(f"step {step.index + 1}/{steps}  loss {step.loss:.4f}  lr {step.learning_rate:.2e}")

    seconds = run_sft(trainer, load_codec(model), conversations,
                      SftConfig(steps=steps, rows_per_step=rows_per_step, learning_rate=learning_rate,
                                token_budget=token_budget, seed=seed), show)
    trainer.save_model(str(out))
    typer.echo(f"{out}: {seconds:.1f} s of training")
