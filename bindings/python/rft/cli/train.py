"""`rft train`: one run from a run.yaml to the last screen."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rft.cli.console import Judges, Quiet, Set, open_judges, read_config, stderr, stdout

if TYPE_CHECKING:
    from rft.run import Run


def train(
    run_yaml: Annotated[Path | None, typer.Argument(metavar="[RUN.yaml]", help="What to train, on what, graded how.")] = None,
    set_: Set = [],  # noqa: B006 - typer reads the default, nothing changes it
    resume: Annotated[Path | None, typer.Option(metavar="RUN_DIR", help="Go on with this run from its last checkpoint.")] = None,
    judges: Judges = [],  # noqa: B006
    quiet: Quiet = False,
) -> None:
    """Train with reinforcement: sample, grade, learn; evaluates on held-out rows before and after.

    Ctrl-C finishes the step in progress, saves, and exits with 130; [bold]--resume[/bold] goes on from there.
    """
    if run_yaml is None and resume is None:
        raise ValueError("which run? give a run file (rft train run.yaml) or --resume RUN_DIR")
    if run_yaml is not None and not run_yaml.is_file():
        raise FileNotFoundError(f"{run_yaml}: no such run file")
    from rft.run import Run, config_of
    from rft.training_session import train_session

    console = stderr()
    stack = ExitStack()
    with console.status("loading the model"):
        stack.enter_context(open_judges(judges))
        run = Run(read_config(run_yaml or config_of(resume or ""), set_), resume=resume)
    received: list[int] = []
    with stack, run, stop_on_signals(run, received, console):
        result = train_session(run, console=console, quiet=quiet)
    if received:
        console.print(f"interrupted after {run.step_index} steps; saved in {run.dir}\n"
                      f"go on with: .venv/bin/rft train --resume {run.dir}")
        raise typer.Exit(128 + received[0])
    result.show(stdout())


class stop_on_signals:  # noqa: N801 - used like a function, in a with statement
    """SIGINT and SIGTERM ask the run to stop after the step in progress.

    A Python signal handler waits until C++ returns, so a thread reads the wake-up pipe and passes the request on at once.
    """

    def __init__(self, run: Run, received: list[int], console: Any) -> None:
        self._run, self._received, self._console = run, received, console

    def __enter__(self) -> None:
        import os
        import threading

        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._old = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
        self._old_wakeup = signal.set_wakeup_fd(self._write)
        self._thread = threading.Thread(target=self._listen, daemon=True, name="rft-signals")
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        import os

        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        os.close(self._write)
        self._thread.join(timeout=5)
        os.close(self._read)

    def _listen(self) -> None:
        import os

        while data := os.read(self._read, 16):
            for number in data:
                if number in self._old and not self._received:
                    self._received.append(number)
                    self._run.request_stop()
                    self._console.print("stopping: finishing the step in progress, then saving")
