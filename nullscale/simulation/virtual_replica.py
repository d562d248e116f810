"""One replica on a virtual clock: the product's own scheduler and costs, batches that only last."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from nullscale.scheduling.costs import ROW_LIMITS, Costs
from nullscale.scheduling.scheduler import Lead, Scheduler, least_work_first
from nullscale.scheduling.work import Kind, Phase, TileTask
from nullscale.simulation.devices import Device
from nullscale.simulation.traffic import Arrival, Outcome

_WARM_BATCHES = 20  # of each kind; with caps of up to 16 rows all sizes are then judged


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """How every replica of a fleet is set; the defaults are the engine's.

    Attributes:
        limits: rows that no batch of a phase may exceed.
        jitter: share by which batches take more or less than their mean, at most.
        known: kinds of rows that a replica has measured before its first request.
    """

    device: Device
    max_active: int = 8
    max_active_pixels: float = 2**26
    limits: Mapping[Phase, int] = field(default_factory=lambda: ROW_LIMITS)
    lead: Lead = least_work_first
    jitter: float = 0.1
    known: frozenset[Kind] = frozenset()


class VirtualReplica:
    """Takes requests between batches, as the engine's thread does; its owner holds the clock."""

    def __init__(self, number: int, settings: ReplicaSettings, rng: Random) -> None:
        self.number = number
        self.done_s = 0.0
        self._settings = settings
        self._rng = rng
        self._costs = _measured(settings)
        self._scheduler = Scheduler(
            settings.max_active,
            self._costs,
            max_active_pixels=settings.max_active_pixels,
            lead=settings.lead,
        )
        self._inbox: dict[str, Arrival] = {}
        self._taken: dict[str, tuple[Arrival, float]] = {}
        self._batch: list[TileTask] = []
        self._batch_s = 0.0

    @property
    def ongoing(self) -> int:
        """Requests that it has been given and not ended."""
        return len(self._inbox) + len(self._taken)

    @property
    def busy(self) -> bool:
        """Whether a batch is under way."""
        return bool(self._batch)

    @property
    def work_s(self) -> float:
        """What those count for at the ingress; of how far they are it knows nothing."""
        taken = (arrival for arrival, _ in self._taken.values())
        return sum(arrival.work_s for arrival in (*self._inbox.values(), *taken))

    def give(self, request_id: str, arrival: Arrival) -> None:
        """Hand it a request; it looks at it before its next batch."""
        self._inbox[request_id] = arrival

    def begin_batch(self, now_s: float) -> tuple[float | None, list[Outcome]]:
        """Form the next batch; return its seconds, None where there is none, and who ended now."""
        assert not self._batch
        ended = [*self._take_up(now_s), *self._drop_overdue(now_s), *self._admit(now_s)]
        self._batch = self._scheduler.next_batch()
        if not self._batch:
            return None, ended
        jitter = self._rng.uniform(1 - self._settings.jitter, 1 + self._settings.jitter)
        kind, rows = self._batch[0].kind, len(self._batch)
        self._batch_s = self._settings.device.batch_s(kind, rows) * jitter
        return self._batch_s, ended

    def end_batch(self, now_s: float) -> list[Outcome]:
        """Complete the batch under way; return who ended with it."""
        kind, rows = self._batch[0].kind, len(self._batch)
        self._costs.observe(kind, rows, self._batch_s)
        self.done_s += self._batch_s
        ended = []
        for task in self._batch:
            if self._scheduler.complete(task) and self._scheduler.finished(task.request_id):
                ended.append(self._forget(task.request_id, now_s))
        self._batch = []
        return ended

    def _take_up(self, now_s: float) -> list[Outcome]:
        refused = []
        for request_id, arrival in self._inbox.items():
            estimated_s = self._scheduler.service_s(arrival.plan)
            if arrival.deadline_s is not None:
                ends_s = now_s + self._scheduler.completion_s(arrival.plan)
                if ends_s > arrival.deadline_s:
                    refused.append(Outcome(arrival, None, True, estimated_s))
                    continue
            self._taken[request_id] = arrival, estimated_s
            self._scheduler.add(
                request_id, arrival.plan, deadline_s=arrival.deadline_s, pixels=arrival.pixels
            )
        self._inbox.clear()
        return refused

    def _drop_overdue(self, now_s: float) -> list[Outcome]:
        return [self._forget(request_id, None) for request_id in self._scheduler.overdue(now_s)]

    def _admit(self, now_s: float) -> list[Outcome]:
        """Admit who may be; a plan of nothing has ended with that, and leaves its place."""
        ended: list[Outcome] = []
        while done := [i for i in self._scheduler.admit() if self._scheduler.finished(i)]:
            ended += [self._forget(request_id, now_s) for request_id in done]
        return ended

    def _forget(self, request_id: str, finished_s: float | None) -> Outcome:
        self._scheduler.remove(request_id)
        arrival, estimated_s = self._taken.pop(request_id)
        return Outcome(arrival, finished_s, estimated_s=estimated_s)


def _measured(settings: ReplicaSettings) -> Costs:
    costs = Costs(settings.limits)
    for kind in sorted(settings.known):
        for _ in range(_WARM_BATCHES):
            rows = costs.cap(kind)
            costs.observe(kind, rows, settings.device.batch_s(kind, rows))
    return costs
