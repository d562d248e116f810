"""How much work comes, and what it costs: standard library only, for simulations as well."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

WINDOWS_S = (3, 8, 25, 80)
SURELY = 1.5
"""Standard deviations by which a rate must stand out, so that one large picture is no trend."""
MEMORY_REQUESTS = 30


def work_units(pixels: int, steps: int) -> float:
    """Return the work of a picture: megapixels of output times steps."""
    return pixels / 1e6 * steps


@dataclass(frozen=True, slots=True)
class Rate:
    """Work that arrives a second, as one window shows it: sums over processes are the whole.

    Attributes:
        mean: Σw over the window.
        variance: of that mean, if work comes as a compound Poisson process: Σw² over the window's
            square.
    """

    mean: float
    variance: float


def beyond_chance(rates: Iterable[Rate]) -> float:
    """Return the rate at which work surely arrives; ``rates`` has one of each window.

    Of each window it is the mean less `SURELY` standard deviations; the largest counts. So a burst
    of many small pictures shows within seconds, and one large picture alone is no rate at all.
    """
    return max([0.0, *(rate.mean - SURELY * math.sqrt(rate.variance) for rate in rates)])


def told_as(window_s: int) -> tuple[str, str]:
    """Return the names under which a window's mean and variance are told to the policy."""
    name = f"arriving_work_s_per_s_over_{window_s}_s"
    return name, f"{name}_variance"


class Arrivals:
    """Work that has come within each of `WINDOWS_S`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: deque[tuple[int, float, float]] = deque()

    def add(self, work: float) -> None:
        """Take note of work that has come."""
        now = int(self._clock())
        total = squares = 0.0
        if self._seconds and self._seconds[-1][0] == now:
            _, total, squares = self._seconds.pop()
        self._seconds.append((now, total + work, squares + work**2))

    def rates(self) -> list[Rate]:
        """Return the work that arrives a second, by window."""
        now_s = self._clock()
        while self._seconds and self._seconds[0][0] <= int(now_s) - WINDOWS_S[-1]:
            self._seconds.popleft()
        rates: list[Rate] = []
        total = squares = 0.0
        second = len(self._seconds)
        for window_s in WINDOWS_S:
            while second and self._seconds[second - 1][0] > int(now_s) - window_s:
                second -= 1
                total += self._seconds[second][1]
                squares += self._seconds[second][2]
            # The present second is not over.
            passed_s = window_s - 1 + now_s % 1
            rates.append(Rate(total / passed_s, squares / passed_s**2))
        return rates


class Workload:
    """What one process knows of its work, in engine seconds.

    Seconds of a unit are learned from what pictures cost, by an average over the last thirty or so,
    weighted by their work; until the first there is a guess.

    Args:
        on_arrival: told the seconds of what arrives.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        on_arrival: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._arrivals = Arrivals(clock)
        self._on_arrival = on_arrival
        self._guess_s = 1.0
        self._units = self._cost_s = 0.0

    @property
    def unit_s(self) -> float:
        """Engine seconds of a unit of work."""
        return self._cost_s / self._units if self._units else self._guess_s

    def guess(self, unit_s: float) -> None:
        """Say what a unit takes as long as nothing has been learned."""
        if unit_s > 0:
            self._guess_s = unit_s

    def learn(self, work: float, work_s: float) -> None:
        """Take note of what so much work has cost."""
        if work > 0 and work_s > 0:
            kept = 1 - 1 / MEMORY_REQUESTS
            self._units = self._units * kept + work
            self._cost_s = self._cost_s * kept + work_s

    def arrive(self, work: float) -> None:
        """Take note of work that has come, be it taken or refused."""
        if work > 0:
            self._arrivals.add(work)
            self._on_arrival(work * self.unit_s)

    def arriving(self) -> dict[str, float]:
        """Return the engine seconds that arrive a second, by window, as the policy is told.

        What may be chance is left in: only of all processes' sums can it be said.
        """
        told: dict[str, float] = {}
        for window_s, rate in zip(WINDOWS_S, self._arrivals.rates(), strict=True):
            mean, variance = told_as(window_s)
            told[mean] = rate.mean * self.unit_s
            told[variance] = rate.variance * self.unit_s**2
        return told
