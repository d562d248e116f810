"""Whether a series of measurements grows: its slope, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth an hour: the least-squares estimate, and the ends of its confidence interval."""

    per_hour: float
    low: float
    high: float

    def verdict(self, limit: float) -> str:
        """Say ``flat`` or ``grows`` where the whole interval is on one side, else ``unclear``."""
        if self.high <= limit:
            return "flat"
        return "grows" if self.low > limit else "unclear"


def slope(hours: Sequence[float], values: Sequence[float]) -> Slope:
    """Return the slope of a line through three points or more, their errors independent."""
    # Not `stats.linregress`, whose error is NaN where all values are the same.
    (estimate, _), covariance = np.polyfit(hours, values, 1, cov=True)
    margin = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 2) * covariance[0, 0] ** 0.5
    return Slope(float(estimate), float(estimate - margin), float(estimate + margin))


def by_window(
    times_s: Sequence[float], values: Sequence[float], window_s: float, windows: int
) -> list[list[float]]:
    """Return the values of each window of time, from zero on.

    Neighbours among samples resemble each other, and a fit to them would be too sure of itself; a
    figure of each window is closer to independent.
    """
    numbers = np.floor_divide(times_s, window_s).astype(int)
    found: list[list[float]] = [[] for _ in range(windows)]
    for number, value in zip(numbers, values, strict=True):
        if 0 <= number < windows:
            found[number].append(float(value))
    return found
