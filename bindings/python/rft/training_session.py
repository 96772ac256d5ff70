"""A whole training session around a Run: evaluate, train with a progress bar, evaluate, summarise, plot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rft import report
from rft.plot import plot
from rft.report import Evaluation
from rft.run_folder import read_metrics

if TYPE_CHECKING:
    from rich.console import Console

    from rft._rft import StepReport
    from rft.run import Run


@dataclass(frozen=True)
class Result:
    """What a session leaves for the last screen."""

    run_dir: Path
    summary: dict[str, Any]
    before: Evaluation | None
    after: Evaluation | None

    def show(self, console: Console) -> None:
        """Prints the last screen."""
        report.show(console, self.run_dir, self.summary, self.before, self.after)


def train_session(run: Run, *, console: Console, quiet: bool = False, earlier_train_seconds: float = 0.0) -> Result:
    """Runs `run` to its end and finishes it. `earlier_train_seconds`: training before this run that counts as part of it (SFT).

    A run stopped from outside is saved but not evaluated again.
    """
    console.print(f"run folder: {run.dir}", soft_wrap=True)
    has_heldout = bool(run.config.get("data.heldout"))
    if has_heldout and run.step_index == 0:
        with console.status("held-out reward before training"):
            report_before = run.evaluate()
        console.print(f"held-out reward before training: {report_before.reward_mean:.3f} ({report_before.num_rows} rows)")
    with StepBar(console, run, quiet) as bar:
        while not run.stop_requested and (step := run.step()) is not None:
            bar.update(step)
    with console.status("saving" if run.stop_requested else "held-out reward after training, saving the model"):
        run.finish()
    before, after = (Evaluation.read(run.dir / f"eval-{when}.json") for when in ("before", "after"))
    summary = report.complete_summary(run.dir, earlier_train_seconds)
    if read_metrics(run.dir):
        plot(run.dir)
    return Result(run.dir, summary, before, None if run.stop_requested else after)


class StepBar:
    """Progress on stderr: steps, reward, tokens/s, time left. Without a terminal: a line now and then."""

    def __init__(self, console: Console, run: Run, quiet: bool) -> None:
        self._console, self._run, self._quiet = console, run, quiet
        self._bar: Any = None

    def __enter__(self) -> StepBar:
        if not self._quiet and self._console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._bar = Progress(TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
                                 TextColumn("reward {task.fields[reward]}"), TextColumn("{task.fields[speed]} tokens/s"),
                                 TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self._console)
            self._task = self._bar.add_task("training", total=self._run.num_steps, completed=self._run.step_index,
                                            reward="-", speed="-")
            self._bar.start()
        return self

    def update(self, step: StepReport) -> None:
        """Shows one more step."""
        speed = step.tokens_sampled / step.seconds if step.seconds > 0 else 0.0
        if self._bar is not None:
            self._bar.update(self._task, completed=self._run.step_index, reward=f"{step.reward_mean:.3f}", speed=f"{speed:,.0f}")
        elif not self._quiet and (step.index < 3 or step.index % max(1, self._run.num_steps // 20) == 0):
            self._console.print(f"step {step.index + 1}/{self._run.num_steps}  reward {step.reward_mean:.3f}  length "
                                f"{step.completion_length_mean:.1f}  {speed:,.0f} tokens/s  {step.seconds:.2f} s")

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
