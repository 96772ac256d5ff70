"""`rft bench sandbox` (and a row of `rft bench graders`): what the sandbox adds to running a program.

    graders/sandbox/overhead_ms   median of a small program in a warm sandbox, less the same as a bare process start; extras: both of
                                  them, and `back_to_back_ms` per program when one follows another at once. `limit` is the goal.
"""

from __future__ import annotations

from collections.abc import Iterator

from rft.bench import BenchOptions, Log, Row, row

GOAL_MS = 15
EXECUTIONS = 20


def run(options: BenchOptions, log: Log) -> Iterator[Row]:
    """The one row."""
    if options.only not in "graders/sandbox/overhead_ms":
        return
    from rft import _native

    log(f"{EXECUTIONS} programs in the sandbox and bare")
    ms = _native.sandbox_overhead(EXECUTIONS)
    yield row("graders/sandbox/overhead_ms", ms["warm"] - ms["bare"], None, "ms", GOAL_MS, smaller_is_better=True,
              warm_ms=round(ms["warm"], 2), bare_ms=round(ms["bare"], 2), back_to_back_ms=round(ms["back_to_back"], 2))
