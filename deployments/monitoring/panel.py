"""Panels of a dashboard as plain data, and the windows of their queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deployments.monitoring.queries import Queries

Unit = Literal["short", "s", "reqps", "percentunit", "bytes", "dB", "percent", "none"]

Q = Queries("$application", "$__rate_interval")
MINUTE = Queries("$application", "1m")
HOUR = Queries("$application", "1h")


@dataclass(frozen=True, slots=True)
class Line:
    """A query and what its series are called; ``{{label}}`` is that label's value."""

    query: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel: a graph over time, or one number.

    Attributes:
        bad_from: value from which on it is red.
        good_from: value from which on it is green; below, it is red.
    """

    title: str
    unit: Unit
    lines: Sequence[Line]
    description: str
    number: bool = False
    bad_from: float | None = None
    good_from: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


def quantiles(name: str, *matchers: str, by: Sequence[str] = ()) -> list[Line]:
    """The median and the tail of a histogram."""
    legend = "".join(f"{{{{{label}}}}} " for label in by)
    return [
        Line(Q.quantile(q, name, *matchers, by=by), f"{legend}p{100 * q:.0f}")
        for q in (0.5, 0.95, 0.99)
    ]
