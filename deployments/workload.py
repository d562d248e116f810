"""How much work comes, and what it costs: standard library only, for simulations as well."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WINDOWS_S = (3, 10, 40, 160)
FEWEST_S = 10
"""Nobody divides by less: who has just begun to count knows no rate yet."""
DEVIATIONS = 3.0
"""Standard deviations by which a shorter window's rate must be off for the load to have changed."""
COUNTED_S = "counted_s"
"""For how long a process has counted, as it tells the policy."""
MEMORY_REQUESTS = 30


def work_units(pixels: int, steps: int) -> float:
    """Return the work of a picture: megapixels of output times steps."""
    return pixels / 1e6 * steps


@dataclass(frozen=True, slots=True)
class Window:
    """Work that has come within the last seconds: processes' sums add up.

    Attributes:
        seconds: its length, or for how long the oldest process has counted where that is less.
        total: Σw.
        squares: Σw²; the variance of the total, if work comes as a compound Poisson process.
    """

    seconds: float
    total: float
    squares: float


def present_rate(windows: Sequence[Window]) -> float:
    """Return the work that arrives a second; the shortest window comes first.

    That of the longest window in which the rate has not changed: all shorter ones agree with it.
    After Bifet & Gavaldà 2007, "Learning from Time-Changing Data with Adaptive Windowing", with a
    few windows instead of all. Less one standard deviation, by which one large picture alone is no
    rate at all.
    """
    window = next(
        longest
        for number, longest in reversed(list(enumerate(windows)))
        if all(_agree(shorter, longest) for shorter in windows[:number])
    )
    return max(0.0, window.total - math.sqrt(window.squares)) / window.seconds


def _agree(shorter: Window, longer: Window) -> bool:
    """Whether what the shorter one has may be chance, at the rate of the longer one.

    By its own variance, or the one that it would have at that rate if this is larger: a run of
    large pictures has a large one, and an empty window has none.
    """
    off = shorter.total - longer.total * shorter.seconds / longer.seconds
    variance = max(shorter.squares, longer.squares * shorter.seconds / longer.seconds)
    return abs(off) <= DEVIATIONS * math.sqrt(variance)


def told_as(window_s: int) -> tuple[str, str]:
    """Return the names under which a window's total and squares are told to the policy."""
    name = f"arrived_work_s_in_{window_s}_s"
    return name, f"{name}_squares"


def seconds_of(window_s: int, counted_s: float) -> float:
    """Return the length of a window, of which a process that has just begun has seen less."""
    return min(window_s, max(FEWEST_S, counted_s))


class Arrivals:
    """Work that has come within each of `WINDOWS_S`, in whole seconds, without the present one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since_s = int(clock())
        # One entry a second, the present one's too: bounded even where nobody asks.
        self._seconds: deque[tuple[int, float, float]] = deque(maxlen=WINDOWS_S[-1] + 1)

    @property
    def counted_s(self) -> float:
        """Seconds since the first that counts; no more than the longest window has."""
        return min(int(self._clock()) - self._since_s, WINDOWS_S[-1])

    def add(self, work: float) -> None:
        """Take note of work that has come."""
        now = int(self._clock())
        total = squares = 0.0
        if self._seconds and self._seconds[-1][0] == now:
            _, total, squares = self._seconds.pop()
        self._seconds.append((now, total + work, squares + work**2))

    def windows(self) -> list[Window]:
        """Return what has come, the shortest window first."""
        now = int(self._clock())
        windows: list[Window] = []
        total = squares = 0.0
        number = len(self._seconds)
        if number and self._seconds[-1][0] == now:
            number -= 1
        for window_s in WINDOWS_S:
            while number and self._seconds[number - 1][0] >= now - window_s:
                number -= 1
                total += self._seconds[number][1]
                squares += self._seconds[number][2]
            windows.append(Window(seconds_of(window_s, self.counted_s), total, squares))
        return windows


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

    def arrived(self) -> dict[str, float]:
        """Return the engine seconds that have come, by window, as the policy is told.

        What may be chance is left in: only of all processes' sums can it be said.
        """
        told = {COUNTED_S: float(self._arrivals.counted_s)}
        for window_s, window in zip(WINDOWS_S, self._arrivals.windows(), strict=True):
            total, squares = told_as(window_s)
            told[total] = window.total * self.unit_s
            told[squares] = window.squares * self.unit_s**2
        return told
