"""Python functions as graders.

    import rft

    @rft.grader(weight=0.5, deadline_s=2)
    def exact(completion: str, answer: str) -> float:
        return float(completion.strip().endswith(answer))

What a grader may take and return: the docstring of rft/_worker.py. Reward functions written for TRL, eval-protocol and verifiers
are graders as they are (rft/_adapters.py): rft.Run.from_file("run.yaml", graders=[trl.rewards.think_format_reward]).

A grader runs in worker processes, so it can neither slow
down nor break the run: one that raises, hangs or crashes costs its own rollout only, which is then left out, not scored 0.

Needs neither torch nor the compiled extension (cloudpickle, when a function has to be sent pickled).
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import inspect
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional, Union

from rft._adapters import needs_group, rubric_functions

__all__ = ["Grade", "grader", "grader_spec", "judge"]

STYLES = ("auto", "completion", "batch", "group", "trl", "eval_protocol", "verifiers")
POLICY = {"retries", "on_failure", "on_abstain", "max_failure_rate", "deterministic"}


@dataclasses.dataclass(frozen=True)
class Grade:
    """What a grader may return where a number says too little. score None: no opinion, for the `reason` given."""

    score: Optional[float]
    reason: str = ""
    sub_scores: dict[str, float] = dataclasses.field(default_factory=dict)
    turn_scores: Optional[list[float]] = None  # where it was earned: one per turn of the completion
    token_advantages: Optional[list[float]] = None  # one per completion token, added to the token's advantage


@contextlib.contextmanager
def judge(name: str, model: Union[str, os.PathLike], dtype: str = "bf16", threads: int = 0) -> Iterator[None]:
    """While the block runs, `generator: NAME` in an llm_judge's section is the model in the folder `model`.

        with rft.graders.judge("judge", "models/judge"):
            run = rft.Run.from_file("run.yaml")      # graders: [{type: llm_judge, generator: judge, ...}]
    """
    from rft import _native
    from rft.cli.generate import open_model

    codec, engine = open_model(Path(model), dtype, threads)
    native = _native.load()
    native.set_text_generator(name, engine, codec.native())
    try:
        yield
    finally:
        native.set_text_generator(name, None)
        engine.close()


def grader(
    function: Optional[Callable] = None,
    *,
    name: Optional[str] = None,
    weight: float = 1.0,
    deadline_s: float = 10.0,
    workers: int = 1,
    memory_limit_mb: int = 0,
    cpus: int = 0,
    style: str = "auto",
    batch_size: int = 32,
    **policy: Any,
) -> Callable:
    """Marks a function (or class, or object that can be called) as a grader, with or without parentheses. It is
    returned itself, callable as before.

    name             in tables, metrics and rollouts.jsonl; default: the function's
    weight           in the weighted sum that makes the reward; 0 = reported only
    deadline_s       per completion; later answers don't count and the worker is replaced
    workers          processes
    memory_limit_mb  address space of a worker in MiB; 0 = no limit
    cpus             CPUs that a worker may run on; 0 = all
    style            how it is called: "completion", "batch" (lists in, a list out), "group" (the same, all completions of one
                     row: for graders that compare), "trl", "eval_protocol" or "verifiers"; "auto" tells the last three by their
                     signatures
    batch_size       completions per call at most, where it takes lists
    **policy         what its failures mean: retries, on_failure, on_abstain, max_failure_rate, deterministic (docs/graders.md)
    """
    unknown = sorted(set(policy) - POLICY)
    if unknown:
        raise TypeError(f"@rft.grader has no {', '.join(unknown)}; what failures mean is said with {', '.join(sorted(POLICY))}")

    if style not in STYLES:
        raise ValueError(f"@rft.grader: style: {style!r} is not one of {', '.join(STYLES)}")
    if not deadline_s > 0:
        raise ValueError(f"@rft.grader: deadline_s: {deadline_s!r}; seconds above 0")

    def mark(target: Callable) -> Callable:
        if not _can_grade(target):
            raise TypeError(f"@rft.grader marks functions, not {type(target).__name__}")
        target.__rft_grader__ = _marks(target, name, weight, deadline_s, workers, memory_limit_mb, cpus, style, batch_size)
        target.__rft_grader__["policy"] = policy
        return target

    return mark if function is None else mark(function)


def grader_spec(function: Callable) -> dict[str, Any]:
    """The fields of a C++ GraderSpec for `function`, marked with @rft.grader or not.

    >>> grader_spec(exact)   # in rewards.py
    {'name': 'exact', 'type': 'python', 'weight': 1.0, 'deadline_s': 10.0,
     'params': {'function': '/home/me/rewards.py:exact', 'workers': '1', 'memory_limit_mb': '0', ...}}

    A function at the top level of a module of its own is named by file, and workers read that file again. One that lives
    in the main program, in a notebook, inside another function or in a package is sent pickled: a worker that ran the main
    program's file again would start the run again.
    """
    if not _can_grade(function):
        raise TypeError(f"a grader must be a function, not {type(function).__name__}")
    marks = getattr(function, "__rft_grader__", None) or _marks(function)
    params = {key: str(marks[key]) for key in ("workers", "memory_limit_mb", "cpus", "style", "batch_size")}
    for key, value in marks.get("policy", {}).items():
        params[key] = value if isinstance(value, str) else json.dumps(value)
    file = _importable_file(function)
    if file is not None:
        params["function"] = f"{file}:{function.__name__}"
    else:
        params["pickle"] = _pickle(function)
    params["sys_path"] = json.dumps([os.path.abspath(path) for path in sys.path if os.path.isdir(path or ".")])
    return {
        "name": marks["name"],
        "type": "python",
        "weight": marks["weight"],
        "deadline_s": marks["deadline_s"],
        "params": params,
    }


def _marks(
    function: Callable,
    name: Optional[str] = None,
    weight: float = 1.0,
    deadline_s: float = 10.0,
    workers: int = 1,
    memory_limit_mb: int = 0,
    cpus: int = 0,
    style: str = "auto",
    batch_size: int = 32,
) -> dict[str, Any]:
    own_name = getattr(function, "__name__", type(function).__name__)
    return {
        "name": name or ("lambda" if own_name == "<lambda>" else own_name),
        "weight": float(weight),
        "deadline_s": float(deadline_s),
        "workers": int(workers),
        "memory_limit_mb": int(memory_limit_mb),
        "cpus": int(cpus),
        "style": "group" if style in ("auto", "verifiers") and needs_group(function) else style,
        "batch_size": int(batch_size),
    }


def _can_grade(target: object) -> bool:
    return callable(target) or rubric_functions(target) is not None


def _importable_file(function: Callable) -> Optional[str]:
    """The file a worker can load the function from by name, or None."""
    if not (inspect.isfunction(function) or inspect.isclass(function)) or function.__qualname__ != function.__name__:
        return None
    module = sys.modules.get(function.__module__)
    if module is None or function.__module__ == "__main__" or getattr(module, "__package__", ""):
        return None
    if getattr(module, function.__name__, None) is not function:
        return None
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py") or not os.path.isfile(file):
        return None
    return os.path.abspath(file)


def _pickle(function: Callable) -> str:
    try:
        import cloudpickle
    except ImportError:
        raise RuntimeError(
            f"{getattr(function, '__name__', function)!r} lives in the main program or a notebook and has to be sent to "
            "the worker processes pickled: pip install cloudpickle, or move it into a module of its own"
        ) from None
    return base64.b64encode(cloudpickle.dumps(function)).decode()
