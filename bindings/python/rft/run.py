"""A whole run as an iterator: sample, grade, learn, one StepReport per optimizer step."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rft import _native
from rft.codec import load_codec
from rft.events import EventWriter
from rft.run_folder import read_eval, read_metrics

if TYPE_CHECKING:
    from rft._rft import EvalReport, RunConfig, StepReport

GraderLike = Callable[..., Any] | dict[str, Any]


class Run:
    """One run folder. Not thread-safe, except :meth:`request_stop`.

    `with` (or :meth:`finish`) writes the final checkpoint and model and stops the grader processes.
    """

    def __init__(self, config: RunConfig, graders: Sequence[GraderLike] = (), resume: str | Path | None = None,
                 loss: Callable[..., Any] | None = None) -> None:
        """`loss`: a function as `rft.check_loss` takes it, in place of losses.name. It is checked; what it breaks is a warning.
        Of `losses:`, only kl_coef and kl_target may be set beside it.
        """
        native = _native.load()
        if not isinstance(config, native.RunConfig):
            raise TypeError(f"config: is {config!r}; expected an rft.RunConfig (rft.Run.from_file(path) reads a run file)")
        if isinstance(graders, dict) or not isinstance(graders, Iterable):
            raise TypeError(f"graders: expected a list such as graders=[{getattr(graders, '__name__', '...')}], "
                            f"got one {type(graders).__name__}")
        if not graders and not config.get("graders"):  # before a folder is made
            raise native.ConfigError("graders: there is none; add one under graders: in the run file or give graders=[function]")
        self.config = config
        self.codec = load_codec(config.get("model"))
        self._run = native.Run(config, self.codec.native(), [as_spec(item) for item in graders],
                               str(resume) if resume else "", checked(loss) if loss else None)
        self.dir = Path(self._run.dir)
        self.stop_requested = False
        self._events = EventWriter(self.dir / "tensorboard")
        self._finished = False

    @classmethod
    def from_file(cls, path: str | Path, graders: Sequence[GraderLike] = (), overrides: Sequence[str] = (),
                  resume: str | Path | None = None, loss: Callable[..., Any] | None = None) -> Run:
        """From a run.yaml (or a resolved config.json). `overrides` are "trainer.steps=10"; `graders` are functions made
        with @rft.grader (or plain ones), used in addition to those of the file; `resume` is a run folder to go on with;
        `loss` is a function in place of losses.name.
        """
        if isinstance(overrides, str | dict):
            raise TypeError(f'overrides: expected a list such as ["trainer.steps=10"], got {overrides!r}')
        return cls(_native.load().RunConfig.from_file(str(path), list(overrides)), graders, resume, loss)

    @classmethod
    def resume(cls, run_dir: str | Path, graders: Sequence[GraderLike] = (), overrides: Sequence[str] = (),
               loss: Callable[..., Any] | None = None) -> Run:
        """Goes on with the run in `run_dir`, from its last checkpoint and with its own resolved configuration."""
        return cls.from_file(config_of(run_dir), graders, overrides, resume=run_dir, loss=loss)

    def __iter__(self) -> Iterator[StepReport]:
        """Runs step after step until the configured number, a stop request or nothing left to learn."""
        while (report := self.step()) is not None:
            yield report

    def step(self) -> StepReport | None:
        """One optimizer step; None when the run is over (`stop_reason` says why)."""
        report: StepReport | None = self._run.next()
        if report is not None:
            self._events.add(report.index, report.metrics)
        return report

    def evaluate(self) -> EvalReport:
        """Mean reward on data.heldout with the current weights. Changes nothing else."""
        report: EvalReport = self._run.evaluate()
        self._events.add(self.step_index, {"heldout/reward_mean": report.reward_mean,
                                           **{f"heldout/{name}": value for name, value in report.metrics.items()}})
        return report

    def save(self, folder: str | Path) -> Path:
        """Writes the current model as a Hugging Face folder."""
        self._run.save(str(folder))
        return Path(folder)

    def request_stop(self) -> None:
        """The step in progress is finished, then iteration ends. May be called from any thread or signal handler."""
        self.stop_requested = True
        self._run.request_stop()

    def finish(self) -> None:
        """Last checkpoint, evaluation after training, model/ and summary.json; stops the worker processes. Idempotent."""
        if not self._finished:
            self._finished = True
            try:
                self._run.finish()
                after = read_eval(self.dir, "after")
                if after is not None and after["reward_mean"] is not None:
                    self._events.add(self.step_index, {"heldout/reward_mean": after["reward_mean"]})
            finally:
                self._events.close()

    def close(self) -> None:
        """Lets go of everything without writing a checkpoint or a model: for evaluation only. Idempotent."""
        if not self._finished:
            self._finished = True
            self._events.close()
            del self._run

    @property
    def num_steps(self) -> int:
        """Configured optimizer steps."""
        return int(self._run.num_steps)

    @property
    def memory_plan(self) -> dict[str, Any] | None:
        """What the run will use memory for, planned before its first step; None where the trainer is elsewhere."""
        plan: dict[str, Any] | None = self._run.memory_plan
        return plan

    @property
    def step_index(self) -> int:
        """Steps done so far."""
        return int(self._run.step_index)

    @property
    def stop_reason(self) -> str:
        """Why the run ended; "" while it goes on."""
        return str(self._run.stop_reason)

    @property
    def tokens_sampled(self) -> int:
        """Tokens sampled for training so far."""
        return int(self._run.tokens_sampled)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.finish()
        else:
            self.close()

    def __repr__(self) -> str:
        state = self.stop_reason or "running"
        return f"<rft.Run {self.config.get('name')!r} step {self.step_index}/{self.num_steps} ({state}) in {self.dir}>"

    def _repr_html_(self) -> str:
        rows = read_metrics(self.dir)[-5:]
        names = ("reward_mean", "completion_length_mean", "kl_max", "grad_norm")
        head = "".join(f"<th>{name}</th>" for name in ("step", *names))
        body = "".join(f"<tr><td>{row.get('step', row.get('index', ''))}</td>" + "".join(
            f"<td>{row[name]:.4g}</td>" if isinstance(row.get(name), int | float) else "<td></td>" for name in names) + "</tr>"
            for row in rows)
        return f"<b>{escape(repr(self))}</b><table><tr>{head}</tr>{body}</table>"


def config_of(run_dir: str | Path) -> Path:
    """The resolved configuration of a run folder."""
    config = Path(run_dir) / "config.json"
    if not config.is_file():
        raise FileNotFoundError(f"{config}: missing; {run_dir} is not a run folder")
    return config


def as_spec(item: GraderLike) -> dict[str, Any]:
    """The dict C++ takes, from a grader function or from a dict that already is one."""
    if isinstance(item, dict):
        return item
    from rft.graders import grader_spec

    return grader_spec(item)


def checked(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The loss as C++ calls it. What it breaks of what every policy loss must keep is a warning: a run may still want it."""
    from rft.loss_check import NAMES, check_loss
    from rft.training import of_datums

    if set(inspect.signature(loss).parameters) & set(NAMES) - {"logprobs"}:
        report = check_loss(loss, quiet=True)
        if not report:
            broken = "\n".join(line for line in str(report).splitlines() if not line.startswith("ok"))
            warnings.warn(f"{getattr(loss, '__name__', 'the loss')} does not keep what rft.check_loss checks:\n{broken}", stacklevel=3)
    return of_datums(loss)
