"""Statistics of an evaluation pair: is the reward after training higher on the same held-out rows?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class PairedDifference:
    """Mean of after - before over rows judged both times, with a percentile bootstrap interval."""

    before: float
    after: float
    mean: float
    low: float
    high: float
    num_rows: int


def paired_bootstrap(before: Sequence[float] | npt.NDArray[np.floating], after: Sequence[float] | npt.NDArray[np.floating],
                     *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> PairedDifference:
    """Resamples rows (not completions), keeping each row's pair together.

    Rows that could not be judged (NaN) before or after are left out of both. Deterministic for a seed.

    >>> paired_bootstrap([0.0, 0.0], [1.0, 1.0]).low
    1.0
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"before and after must be two lists of one length, not {first.shape} and {second.shape}")
    judged = np.isfinite(first) & np.isfinite(second)
    first, second = first[judged], second[judged]
    if first.size == 0:
        raise ValueError("no row was judged both before and after: nothing to compare")
    difference = second - first
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    chunk = max(1, 4_000_000 // difference.size)
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        means[start:start + count] = difference[rng.integers(0, difference.size, (count, difference.size))].mean(axis=1)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return PairedDifference(float(first.mean()), float(second.mean()), float(difference.mean()), float(low), float(high),
                            int(difference.size))
