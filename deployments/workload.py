"""How much work comes, and what it costs: standard library only, for simulations as well."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WINDOWS_S = (3, 10, 40, 160)
SURELY = 3.0
"""Standard deviations by which a shorter window's rate must be off for the load to have changed."""
FEWEST = 4
"""Pictures alike, at the least, that are a rate: one large picture alone is none."""
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


def present_rate(rates: Sequence[Rate]) -> float:
    """Return the rate at which work arrives; ``rates`` has one of each of `WINDOWS_S`.

    That of the longest window in which it has not changed: none of the shorter ones is off by more
    than chance, by its own variance or by what it would have at the longer one's rate, whichever is
    larger. So a burst of many small pictures shows within seconds, and a run of large ones is a
    matter of chance. After Bifet & Gavaldà 2007, "Learning from Time-Changing Data with Adaptive
    Windowing", with four windows instead of all.
    """
    rate = next(rates[n] for n in reversed(range(len(rates))) if _unchanged(rates[: n + 1]))
    # (Σw)² ≥ n Σw²: Kish's effective number of pictures is n at the least.
    return rate.mean if rate.mean**2 >= FEWEST * rate.variance else 0.0


def _unchanged(rates: Sequence[Rate]) -> bool:
    """Whether the rates of all windows agree with the last one's."""
    *shorter, longest = rates
    for window_s, rate in zip(WINDOWS_S, shorter, strict=False):
        expected = longest.variance * WINDOWS_S[len(shorter)] / window_s
        by_chance = SURELY * math.sqrt(max(rate.variance, expected))
        if abs(rate.mean - longest.mean) > by_chance:
            return False
    return True


def told_as(window_s: int) -> tuple[str, str]:
    """Return the names under which a window's mean and variance are told to the policy."""
    name = f"arriving_work_s_per_s_over_{window_s}_s"
    return name, f"{name}_variance"


class Arrivals:
    """Work that has come within each of `WINDOWS_S`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since_s = clock()
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
            # The present second is not over, and before the first nobody counted.
            passed_s = min(window_s - 1 + now_s % 1, max(1.0, now_s - self._since_s))
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
