"""The soak's figures, of series that are known."""

import json

import numpy as np
import pytest
import soak
from holdings import Sample
from soak import End, figures, misses

HOUR_S = 3600.0


def ends(p95_growth: float = 0.0) -> list[End]:
    """Ten requests a window, the slowest of which takes longer as time goes on."""
    at_s = np.arange(0, HOUR_S, HOUR_S / soak.WINDOWS / 10)
    slow_s = 1 + p95_growth * at_s / HOUR_S
    return [End("served", t, t + s, "") for t, s in zip(at_s, slow_s, strict=True)]


def samples(*, memory: float = 0.0, threads: float = 0.0) -> list[Sample]:
    """Growth an hour of one process that holds 400 MB, 40 threads and 80 files."""
    return [
        Sample(
            t,
            {
                "jobs": {
                    "threads": 40 + threads * t / HOUR_S,
                    "files": 80,
                    "memory_mb": 400 + memory * t / HOUR_S,
                }
            },
        )
        for t in np.arange(0, HOUR_S, 20.0)
    ]


def test_what_does_not_grow_is_flat() -> None:
    found = figures(ends(), samples(), HOUR_S)
    assert misses(found) == []
    assert found["requests"] == {"served": 300}
    assert found["held"]["jobs"]["memory_mb"] == [400] * soak.WINDOWS
    json.dumps(found, allow_nan=False)


def test_growth_is_found_and_named() -> None:
    found = figures(ends(2), samples(memory=30, threads=2), HOUR_S)
    slopes = found["slopes"]
    # A third of a request in a thousand may leave something behind: there are 300 an hour.
    assert slopes["threads"]["jobs"]["limit"] == 0.3
    assert slopes["threads"]["jobs"]["per_hour"] == pytest.approx(2, abs=0.2)
    assert slopes["memory_mb"]["jobs"]["per_hour"] == pytest.approx(30, abs=0.2)
    assert slopes["memory_mb"]["jobs"]["limit"] == pytest.approx(0.05 * 417.5, rel=0.01)
    assert slopes["p95_s"]["all"]["per_hour"] == pytest.approx(2, abs=0.1)
    assert misses(found) == [
        "p95_s of all: grows",
        "threads of jobs: grows",
        "memory_mb of jobs: grows",
    ]


def test_the_first_sixth_does_not_count() -> None:
    filling = [
        Sample(s.at_s, {"jobs": {"threads": min(40.0, s.at_s), "files": 1, "memory_mb": 1}})
        for s in samples()
    ]
    assert misses(figures(ends(), filling, HOUR_S)) == []


def test_failures_count() -> None:
    failed = [*ends(), End("job", 5.0, 6.0, "503")]
    assert misses(figures(failed, samples(), HOUR_S)) == ["failed: job: 503"]
