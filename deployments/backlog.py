"""How much work is out, and how soon it will be back."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from deployments.problems import Problem
from deployments.workload import Workload

MEMORY_S = 60.0
"""Of busy time: what was done before counts for little."""
MEMORY_REQUESTS = 10
GUESS_S = 1.0
"""For as long a body on its way counts: one that drips in takes nobody's room."""


@dataclass(slots=True, eq=False)
class Place:
    """One request's place; its work is a guess until `Backlog.settle`."""

    work: float
    guessed: bool = True


class Backlog:
    """The work that one ingress replica has sent out, against the rate at which it comes back.

    Work has any unit that is proportional to time. The rate is that of the last busy minute, so it
    follows the number of replicas, their batches, and what others take of them. It counts from the
    first return of a busy time on: how long one request takes alone says nothing of how many are
    done at once. Until something has come back after that nothing is known, and everything is
    taken.

    Attributes:
        max_wait_s: what is out may take so long, and nothing more is taken.
        load: what of it has come, refused or not, and what a unit costs.
    """

    def __init__(
        self,
        max_wait_s: float,
        clock: Callable[[], float] = time.monotonic,
        on_arrival: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.max_wait_s = max_wait_s
        self._clock = clock
        self.load = Workload(clock, on_arrival)
        self._seen_s = clock()
        self._usual = 0.0
        self._out = 0.0
        self._working = 0
        self._guesses: deque[tuple[float, Place]] = deque()
        self._flowing = False
        self._done = 0.0
        self._busy_s = 0.0

    def wait_s(self) -> float:
        """Return the seconds until all that is out will be back."""
        out = self._still_out()
        return out * self._busy_s / self._done if self._done else 0.0

    def outstanding_s(self) -> float:
        """Return the engine seconds of all that is out, whether or not any replica runs."""
        return self._still_out() * self.load.unit_s

    def predicted_wait_s(self) -> float:
        """Return `wait_s`; while no rate is known, what one replica alone would take."""
        return self.wait_s() if self._done else self.outstanding_s()

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Take a place before the work is known, so that a burst is counted as it arrives.

        What the block leaves without raising is done.

        Raises:
            Problem: what is out will not be back in time; its `retry_after_s` says when enough of
                it will be.
        """
        excess_s = self.wait_s() - self.max_wait_s
        if excess_s > 0:
            self.load.arrive(self._usual)
            detail = "too much work waits already"
            raise Problem("overloaded", detail, retry_after_s=max(1.0, excess_s), close=True)
        place = Place(0.0)
        self._change(place, self._usual)
        self._guesses.append((self._seen_s + GUESS_S, place))
        try:
            yield place
            self._advance()
            if place.work:
                if self._flowing:
                    self._done += place.work
                self._flowing = True
        finally:
            place.guessed = False
            self._change(place, 0.0)

    def settle(self, place: Place, work: float) -> None:
        """Say how much work a place is for; none, where others have taken it over."""
        place.guessed = False
        self._change(place, work)
        if work:
            self.load.arrive(work)
            self._usual += (work - self._usual) / MEMORY_REQUESTS

    def _still_out(self) -> float:
        self._advance()
        while self._guesses and self._guesses[0][0] <= self._seen_s:
            _, place = self._guesses.popleft()
            if place.guessed:
                self._change(place, 0.0)
        return self._out

    def _change(self, place: Place, work: float) -> None:
        self._advance()
        self._out += work - place.work
        self._working += bool(work) - bool(place.work)
        place.work = work
        if not self._working:
            # Sums of floats leave a rest; with nothing out there is none.
            self._out, self._flowing = 0.0, False

    def _advance(self) -> None:
        now_s = self._clock()
        if self._flowing:
            passed_s = now_s - self._seen_s
            kept = math.exp(-passed_s / MEMORY_S)
            self._busy_s = self._busy_s * kept + passed_s
            self._done *= kept
        self._seen_s = now_s
