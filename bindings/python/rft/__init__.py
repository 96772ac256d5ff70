"""rft: reinforcement fine-tuning with pluggable graders.

    import rft

    @rft.grader
    def exact(completion: str, row: dict) -> float:
        return float(completion.strip().endswith(row["answer"]))

    run = rft.Run.from_file("examples/01_arithmetic/run.yaml", graders=[exact])
    for step in run:
        print(step.index, step.reward_mean, step.kl_max)
    run.save("out/final")

Names are imported on first use, so that `import rft` costs nothing and a grader's worker process loads neither torch nor the
compiled extension.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Name -> the module that defines it. `rft._native` stands for the compiled extension.
_EXPORTS = {
    "grader": "rft.graders",
    "Grade": "rft.graders",
    "judge": "rft.graders",
    "Run": "rft.run",
    "Trainer": "rft.training",
    "forward_backward_custom": "rft.training",
    "load_codec": "rft.codec",
    "compile_grammar": "rft.structure",
    "sft": "rft.sft",
    "losses": "rft.losses",
    "check_loss": "rft.loss_check",
    **{name: "rft._native" for name in (
        "RunConfig", "Model", "Adapter", "Engine", "Server", "Datum", "Completion", "StepReport", "EvalReport", "FBResult",
        "OptimResult",
        "Weights", "TextCodec", "compute_advantages", "grade_rows", "loss_forward", "read_dataset", "registered", "build_info", "roofline", "set_threads",
        "Error", "ConfigError", "NotFoundError", "ResourceError", "StateError", "DeadlineError", "DataLossError")},
}
__all__ = ["__version__", *_EXPORTS]

if TYPE_CHECKING:
    from rft import losses  # noqa: F401
    from rft._rft import (  # noqa: F401
        Adapter,
        Completion,
        ConfigError,
        DataLossError,
        Datum,
        DeadlineError,
        Engine,
        Error,
        EvalReport,
        FBResult,
        Model,
        NotFoundError,
        OptimResult,
        ResourceError,
        RunConfig,
        StateError,
        StepReport,
        TextCodec,
        Weights,
        build_info,
        compute_advantages,
        grade_rows,
        loss_forward,
        read_dataset,
        registered,
        roofline,
        set_threads,
    )
    from rft.codec import load_codec  # noqa: F401
    from rft.graders import Grade, grader, judge  # noqa: F401
    from rft.loss_check import check_loss  # noqa: F401
    from rft.run import Run  # noqa: F401
    from rft.structure import compile_grammar  # noqa: F401
    from rft.training import Trainer, forward_backward_custom  # noqa: F401


def __getattr__(name: str) -> Any:
    home = _EXPORTS.get(name)
    if home is None:
        from rft.arguments import meant

        raise AttributeError(f"module 'rft' has no attribute {name!r}{meant(name, _EXPORTS)}")
    module = importlib.import_module(home)
    value = module if home == f"rft.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
