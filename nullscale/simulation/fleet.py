"""A whole service on a virtual clock: replicas, the router before them, and who asks for more.

As with Ray Serve, the backlog waits at the ingress, first come, first served, and a replica is
given at most ``max_ongoing`` requests, which it then orders itself. What a request passes through
besides (HTTP, coding, the hop to a replica) takes no time here.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count
from random import Random

from nullscale.simulation.routing import Route, power_of_two
from nullscale.simulation.traffic import (
    Arrival,
    Autoscaler,
    Decision,
    FleetState,
    Outcome,
    Report,
    kinds_of,
)
from nullscale.simulation.virtual_replica import ReplicaSettings, VirtualReplica


@dataclass(frozen=True, slots=True)
class Fleet:
    """How the service is set.

    Attributes:
        replicas: at the start, running.
        max_ongoing: requests that a replica is given at once.
        max_queued: requests that wait at the ingress at most; beyond, they are refused.
        autoscaler: asked every ``interval_s``; None keeps the number as it is.
        start_s: from the decision for a replica to its first request.
        seed: of the batches' jitter and of the router's choices.
    """

    replica: ReplicaSettings
    replicas: int = 1
    max_ongoing: int = 16
    max_queued: int | None = None
    route: Route = power_of_two
    autoscaler: Autoscaler | None = None
    interval_s: float = 1.0
    start_s: float = 0.0
    seed: int = 0


def run_fleet(arrivals: Iterable[Arrival], fleet: Fleet, *, until_s: float = 0.0) -> Report:
    """Run a load through the service until all of it has ended, and until ``until_s`` at least.

    Raises:
        ValueError: there is no replica, and nobody who would start one.
    """
    if fleet.replicas < 1 and fleet.autoscaler is None:
        raise ValueError("no replica, and no autoscaler to start one")
    return _Run(sorted(arrivals, key=lambda arrival: arrival.at_s), fleet, until_s).run()


@dataclass(slots=True, eq=False)
class _Member:
    """A replica and its place in the fleet."""

    replica: VirtualReplica
    since_s: float
    running: bool = False
    draining: bool = False


class _Run:
    """The events of one run; those of the same moment in the order of `_ARRIVE` to `_ASK`."""

    _ARRIVE, _BATCH_ENDS, _READY, _ASK = range(4)

    def __init__(self, arrivals: list[Arrival], fleet: Fleet, until_s: float) -> None:
        self._fleet = fleet
        kinds = fleet.replica.known or kinds_of(arrivals)
        self._settings = replace(fleet.replica, known=kinds)
        self._until_s = until_s
        self._todo = deque(arrivals)
        self._rng = Random(fleet.seed)
        self._ids, self._numbers, self._order = count(), count(), count()
        self._events: list[tuple[float, int, int, Callable[[], None]]] = []
        self._backlog: deque[Arrival] = deque()
        self._members: list[_Member] = []
        self._outcomes: list[Outcome] = []
        self._decisions: list[Decision] = []
        self._now_s = self._arrived_s = self._ended_work_s = self._held_s = self._busy_s = 0.0
        self._under_way = 0

    def run(self) -> Report:
        for _ in range(self._fleet.replicas):
            self._start(running=True)
        if self._todo:
            self._at(self._todo[0].at_s, self._ARRIVE, self._arrive)
        if self._fleet.autoscaler is not None:
            self._at(0.0, self._ASK, self._ask)
        while self._goes_on():
            self._now_s, _, _, event = heapq.heappop(self._events)
            event()
        self._now_s = max(self._now_s, self._until_s)
        for member in list(self._members):
            self._dismiss(member)
        return Report(
            outcomes=tuple(self._outcomes),
            decisions=tuple(self._decisions),
            replica_s=self._held_s,
            busy_s=self._busy_s,
            ended_s=self._now_s,
        )

    def _goes_on(self) -> bool:
        if self._todo or self._under_way:
            return True
        return bool(self._events) and self._events[0][0] <= self._until_s

    def _at(self, at_s: float, order: int, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, order, next(self._order), event))

    def _arrive(self) -> None:
        """Take all that arrives at this moment, so that a replica sees it together."""
        while self._todo and self._todo[0].at_s <= self._now_s:
            arrival = self._todo.popleft()
            self._arrived_s += arrival.work_s
            self._under_way += 1
            self._backlog.append(arrival)
            self._dispatch()
            if self._fleet.max_queued is not None and len(self._backlog) > self._fleet.max_queued:
                self._backlog.pop()
                self._end(Outcome(arrival, None, refused=True))
        if self._todo:
            self._at(self._todo[0].at_s, self._ARRIVE, self._arrive)
        self._wake()

    def _dispatch(self) -> None:
        while self._backlog:
            free = [
                member.replica
                for member in self._members
                if member.running and member.replica.ongoing < self._fleet.max_ongoing
            ]
            if not free:
                return
            self._fleet.route(free, self._rng).give(str(next(self._ids)), self._backlog.popleft())

    def _wake(self) -> None:
        """Let every idle replica look at what it was given."""
        for member in list(self._members):
            if not member.replica.busy:
                self._continue(member)

    def _continue(self, member: _Member) -> None:
        while member.replica.ongoing:
            seconds, ended = member.replica.begin_batch(self._now_s)
            self._end(*ended)
            if ended:
                self._dispatch()
            if seconds is not None:
                ends_s = self._now_s + seconds
                self._at(ends_s, self._BATCH_ENDS, lambda: self._batch_ends(member))
                return
        if member.draining:
            self._dismiss(member)

    def _batch_ends(self, member: _Member) -> None:
        self._end(*member.replica.end_batch(self._now_s))
        # Where anyone waits, no other replica has room.
        self._dispatch()
        self._continue(member)

    def _end(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            self._under_way -= 1
            self._ended_work_s += outcome.arrival.work_s
        self._outcomes += outcomes

    def _ask(self) -> None:
        assert self._fleet.autoscaler is not None
        state = self._state()
        wanted = max(0, self._fleet.autoscaler(state))
        self._decisions.append(Decision(state, wanted))
        change = wanted - state.running - state.starting
        for _ in range(change):
            self._start()
        for _ in range(-change):
            self._stop_one()
        self._at(self._now_s + self._fleet.interval_s, self._ASK, self._ask)

    def _state(self) -> FleetState:
        running = sum(member.running for member in self._members)
        draining = sum(member.draining for member in self._members)
        return FleetState(
            now_s=self._now_s,
            running=running,
            starting=len(self._members) - running - draining,
            draining=draining,
            outstanding_s=self._arrived_s - self._ended_work_s if self._under_way else 0.0,
            arrived_s=self._arrived_s,
            ongoing=sum(member.replica.ongoing for member in self._members),
            queued=len(self._backlog),
        )

    def _start(self, *, running: bool = False) -> None:
        number = next(self._numbers)
        rng = Random(1000 * self._fleet.seed + number)
        member = _Member(VirtualReplica(number, self._settings, rng), self._now_s, running)
        self._members.append(member)
        if not running:
            ready_s = self._now_s + self._fleet.start_s
            self._at(ready_s, self._READY, lambda: self._ready(member))

    def _ready(self, member: _Member) -> None:
        if member in self._members:
            member.running = True
            self._dispatch()
            self._wake()

    def _stop_one(self) -> None:
        """Let one go that starts still; else the one with the fewest requests, once it has none."""
        candidates = [member for member in self._members if not member.draining]
        member = min(candidates, key=lambda m: (m.running, m.replica.ongoing, -m.replica.number))
        member.running, member.draining = False, True
        if not member.replica.ongoing:
            self._dismiss(member)

    def _dismiss(self, member: _Member) -> None:
        self._members.remove(member)
        self._held_s += self._now_s - member.since_s
        self._busy_s += member.replica.done_s
