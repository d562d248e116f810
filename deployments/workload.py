"""How much work comes, and what it costs: standard library only, for simulations as well."""

import math
import time
from collections import deque
from collections.abc import Callable

WINDOWS_S = (3, 8, 25, 80)
SURELY = 1.5
"""Standard deviations by which a rate must stand out, so that one large picture is no trend."""
MEMORY_REQUESTS = 30


def work_units(pixels: int, steps: int) -> float:
    """Return the work of a picture: megapixels of output times steps."""
    return pixels / 1e6 * steps


class Arrivals:
    """The rate at which work arrives, as far as it is beyond chance.

    Of each of a few windows it is the sum of what came, less `SURELY` standard deviations of that
    sum (of a compound Poisson process, √Σw²), over the window; the largest counts. So a burst of
    many small pictures shows within seconds, and one large picture alone is no rate at all.
    """

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

    def rate(self) -> float:
        """Return the work that surely arrives a second."""
        now_s = self._clock()
        while self._seconds and self._seconds[0][0] <= int(now_s) - WINDOWS_S[-1]:
            self._seconds.popleft()
        best = total = squares = 0.0
        second = len(self._seconds)
        for window_s in WINDOWS_S:
            while second and self._seconds[second - 1][0] > int(now_s) - window_s:
                second -= 1
                total += self._seconds[second][1]
                squares += self._seconds[second][2]
            # The present second is not over.
            passed_s = window_s - 1 + now_s % 1
            best = max(best, (total - SURELY * math.sqrt(squares)) / passed_s)
        return best


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

    def arriving(self) -> float:
        """Return the engine seconds that arrive a second: how many replicas they keep busy."""
        return self._arrivals.rate() * self.unit_s
