"""Slopes of series whose slopes are known."""

import numpy as np
import pytest
from scipy import stats
from slopes import by_window, slope

HOURS = np.linspace(0, 0.5, 30)


def test_a_line_is_found_exactly() -> None:
    found = slope(HOURS, 100 + 8 * HOURS)
    assert (found.per_hour, found.low, found.high) == pytest.approx((8, 8, 8))
    assert (found.verdict(9), found.verdict(7)) == ("flat", "grows")


def test_a_constant_is_flat_whatever_the_limit() -> None:
    found = slope(HOURS, np.full(30, 36.0))
    assert (found.per_hour, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-9)
    assert found.verdict(1e-6) == "flat"


def test_the_estimate_and_its_interval_are_those_of_the_textbook() -> None:
    values = np.random.default_rng(1).normal(50, 4, len(HOURS))
    found, oracle = slope(HOURS, values), stats.linregress(HOURS, values)
    margin = stats.t.ppf(0.975, len(HOURS) - 2) * oracle.stderr
    assert found.per_hour == pytest.approx(oracle.slope)
    assert (found.low, found.high) == pytest.approx((oracle.slope - margin, oracle.slope + margin))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [slope(HOURS, 8 * HOURS + rng.normal(0, 3, len(HOURS))) for _ in range(2000)]
    share = np.mean([one.low <= 8 <= one.high for one in found])
    # Four standard deviations of a count of 2000.
    assert abs(share - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5


def test_noise_leaves_it_open() -> None:
    noise = 50 * (-1.0) ** np.arange(30)
    assert slope(HOURS, noise).verdict(1) == "unclear"


def test_windows_take_what_is_theirs() -> None:
    found = by_window([-1, 0, 1, 9.9, 10, 29, 30], [0, 1, 2, 3, 4, 5, 6], 10, 3)
    assert found == [[1, 2, 3], [4], [5]]
