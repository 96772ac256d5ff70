"""The paired bootstrap interval."""

from __future__ import annotations

import numpy as np
import pytest

from rft.stats import paired_bootstrap


def test_the_interval_holds_the_mean_difference() -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(0.3, 0.2, 80)
    result = paired_bootstrap(before, before + rng.normal(0.1, 0.1, 80))
    assert result.low < result.mean < result.high
    assert result.mean == pytest.approx(result.after - result.before)


def test_pairing_makes_the_interval_narrower_than_rows_that_vary() -> None:
    rng = np.random.default_rng(2)
    before = rng.normal(0, 5, 100)
    result = paired_bootstrap(before, before + 0.1)
    assert result.low == pytest.approx(0.1) and result.high == pytest.approx(0.1)


def test_the_width_is_that_of_the_normal_approximation() -> None:
    rng = np.random.default_rng(3)
    after = rng.normal(1.0, 1.0, 400)
    result = paired_bootstrap(np.zeros(400), after)
    expected = 2 * 1.96 * after.std() / np.sqrt(400)
    assert result.high - result.low == pytest.approx(expected, rel=0.05)


def test_the_same_seed_gives_the_same_interval_and_another_seed_does_not() -> None:
    before, after = [0.0, 0.5, 1.0, 0.2], [0.3, 0.4, 1.0, 0.9]
    assert paired_bootstrap(before, after) == paired_bootstrap(before, after)
    assert paired_bootstrap(before, after, resamples=100) != paired_bootstrap(before, after, resamples=100, seed=1)


def test_rows_without_a_grade_leave_both_sides() -> None:
    result = paired_bootstrap([0.0, float("nan"), 1.0], [1.0, 1.0, float("nan")])
    assert (result.num_rows, result.before, result.after) == (1, 0.0, 1.0)


@pytest.mark.parametrize(("before", "after", "message"), [([0.0], [0.0, 1.0], "one length"), ([float("nan")], [1.0], "no row")])
def test_what_cannot_be_compared_is_refused(before: list[float], after: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(before, after)
