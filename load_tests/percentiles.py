"""Percentiles of what was measured."""

from collections.abc import Iterable

import numpy as np


def percentile(values: Iterable[float], share: float, digits: int = 3) -> float | None:
    """Return the percentile, rounded; None of nothing."""
    found = list(values)
    return round(float(np.percentile(found, share)), digits) if found else None


def percentiles(values: Iterable[float]) -> dict[str, float | None]:
    """Return p50, p95, p99 and the most."""
    found = list(values)
    shares = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    return {name: percentile(found, share) for name, share in shares.items()}
