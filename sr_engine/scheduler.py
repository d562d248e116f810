"""Who steps next: batches of like tiles out of the requests under way. Never sees a tensor."""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable


class Phase(Enum):
    """A network call of a step; only tiles in the same phase can share a batch."""

    DENOISE = "denoise"
    DECODE = "decode"
    ENCODE = "encode"


class Kind(NamedTuple):
    """What the rows of a batch have in common: the phase, and the tile's sides in latent cells."""

    phase: Phase
    height: int
    width: int

    @property
    def cells(self) -> int:
        """The tile's area."""
        return self.height * self.width


@dataclass(frozen=True, slots=True)
class Stage:
    """Rows of one kind that a request needs before it can go on."""

    kind: Kind
    rows: int


Plan = tuple[Stage, ...]
"""All that a request will ask of the networks, in order."""


class TileTask(NamedTuple):
    """One row of one stage of one request."""

    request_id: str
    kind: Kind
    row: int


@runtime_checkable
class CostModel(Protocol):
    """What the scheduler has to know about batches; `sr_engine.costs.Costs` measures it."""

    def cap(self, kind: Kind) -> int:
        """Return how many rows a batch may hold."""
        ...

    def row_s(self, kind: Kind) -> float:
        """Return the seconds of a row in a full batch."""
        ...

    def batch_s(self, kind: Kind, rows: int) -> float:
        """Return the seconds of a batch of so many rows."""
        ...


@dataclass(slots=True)
class Entry:
    """One request as the scheduler knows it.

    Attributes:
        number: order of arrival.
        priority: each step up halves the work that counts in the order.
        remaining: rows not yet completed, by kind.
        work_s: seconds of batched work that they are.
        pending: rows of the present stage that no batch holds yet.
    """

    request_id: str
    number: int
    priority: int
    deadline_s: float | None
    plan: Plan
    remaining: Counter[Kind]
    work_s: float = 0.0
    stage: int = 0
    pending: deque[int] = field(default_factory=deque)
    outstanding: int = 0

    @property
    def kind(self) -> Kind:
        """The kind of the present stage."""
        return self.plan[self.stage].kind

    @property
    def rank(self) -> float:
        """The remaining work, scaled by priority: the lower, the sooner."""
        return self.work_s * 0.5**self.priority

    def weigh(self, costs: CostModel) -> None:
        """Count the remaining work at present costs."""
        self.work_s = sum(rows * costs.row_s(kind) for kind, rows in self.remaining.items())


Lead = Callable[[Collection[Entry], int], Entry]
"""Chooses, among those with pending rows, who leads the batch of the given number."""

OLDEST_EVERY = 4


def least_work_first(ready: Collection[Entry], batch: int) -> Entry:
    """Choose the least remaining work, but every fourth time the oldest, so that none starves."""
    if batch % OLDEST_EVERY == OLDEST_EVERY - 1:
        return min(ready, key=lambda entry: entry.number)
    return min(ready, key=lambda entry: (entry.rank, entry.number))


class Scheduler:
    """Forms batches of one kind, led by one request and filled up with the rows of others.

    At most ``max_active`` requests are under way, so that memory stays bounded; the others wait,
    and are admitted by the same rule: least work, every fourth time the oldest.
    """

    def __init__(self, max_active: int, costs: CostModel, *, lead: Lead = least_work_first) -> None:
        self._max_active = max_active
        self._costs = costs
        self._lead = lead
        self._count = 0
        self._batches = 0
        self._admissions = 0
        self._waiting: dict[str, Entry] = {}
        self._by_work: list[tuple[float, int, Entry]] = []
        self._by_deadline: list[tuple[float, int, Entry]] = []
        self._active: dict[str, Entry] = {}

    def add(
        self,
        request_id: str,
        plan: Plan,
        *,
        priority: int = 0,
        deadline_s: float | None = None,
    ) -> None:
        """Let a request wait for its admission."""
        remaining: Counter[Kind] = Counter()
        for stage in plan:
            remaining[stage.kind] += stage.rows
        entry = Entry(request_id, self._count, priority, deadline_s, plan, remaining)
        self._count += 1
        entry.weigh(self._costs)
        self._waiting[request_id] = entry
        heapq.heappush(self._by_work, (entry.rank, entry.number, entry))
        if deadline_s is not None:
            heapq.heappush(self._by_deadline, (deadline_s, entry.number, entry))

    def admit(self) -> list[str]:
        """Make waiting requests active while there is room; return them."""
        admitted = []
        while self._waiting and len(self._active) < self._max_active:
            entry = self._next_waiting()
            del self._waiting[entry.request_id]
            self._active[entry.request_id] = entry
            self._begin_stage(entry)
            admitted.append(entry.request_id)
        return admitted

    def next_batch(self) -> list[TileTask]:
        """Return the rows to run next, all of one kind; empty when nothing is ready."""
        ready = [entry for entry in self._active.values() if entry.pending]
        if not ready:
            return []
        lead = self._lead(ready, self._batches)
        self._batches += 1
        kind, room = lead.kind, self._costs.cap(lead.kind)
        batch: list[TileTask] = []
        for entry in self._filling(lead, ready):
            while entry.pending and len(batch) < room:
                batch.append(TileTask(entry.request_id, kind, entry.pending.popleft()))
        return batch

    def complete(self, task: TileTask) -> bool:
        """Take a row off its request's list; return whether it was the last of its stage.

        The next stage is ready at once: the caller must have its input before the next batch.
        """
        entry = self._active[task.request_id]
        entry.remaining[task.kind] -= 1
        entry.work_s -= self._costs.row_s(task.kind)
        entry.outstanding -= 1
        if entry.outstanding:
            return False
        entry.stage += 1
        if entry.stage < len(entry.plan):
            self._begin_stage(entry)
        return True

    def finished(self, request_id: str) -> bool:
        """Say whether all stages of an active request are complete."""
        entry = self._active[request_id]
        return entry.stage == len(entry.plan)

    def remove(self, request_id: str) -> bool:
        """Forget a request, waiting or active; say whether it was there."""
        gone = self._active.pop(request_id, None) or self._waiting.pop(request_id, None)
        return gone is not None

    def overdue(self, now_s: float) -> list[str]:
        """Return the requests whose deadline has passed since the last call."""
        late = []
        while self._by_deadline and self._by_deadline[0][0] <= now_s:
            entry = heapq.heappop(self._by_deadline)[2]
            here = self._active.get(entry.request_id) or self._waiting.get(entry.request_id)
            if here is entry:
                late.append(entry.request_id)
        return late

    def service_s(self, plan: Plan) -> float:
        """Return the seconds that a request would take alone."""
        return sum(self._alone_s(stage) for stage in plan)

    def completion_s(self, plan: Plan, *, priority: int = 0) -> float:
        """Return the seconds from now to the end of a new request, under the present load.

        Ahead of it is everything of no more work than its own, and of what has more, every fourth
        batch and the one under way.
        """
        batched_s = sum(stage.rows * self._costs.row_s(stage.kind) for stage in plan)
        # Sums in another order: those of equal work are ahead, whatever the last bit says.
        rank = batched_s * 0.5**priority * (1 + 1e-9)
        ahead_s = self.service_s(plan)
        behind_s = under_way_s = 0.0
        for entry in (*self._active.values(), *self._waiting.values()):
            if entry.rank <= rank:
                ahead_s += entry.work_s
            else:
                behind_s += entry.work_s
                if entry.pending:
                    batch_s = self._costs.batch_s(entry.kind, self._costs.cap(entry.kind))
                    under_way_s = max(under_way_s, batch_s)
        return ahead_s + min(behind_s, ahead_s / (OLDEST_EVERY - 1) + under_way_s)

    def queued_s(self) -> float:
        """Return the seconds of batched work that all requests here have left."""
        return sum(e.work_s for e in (*self._active.values(), *self._waiting.values()))

    def has_work(self) -> bool:
        """Say whether any request waits or is active."""
        return bool(self._waiting or self._active)

    def _alone_s(self, stage: Stage) -> float:
        cap = self._costs.cap(stage.kind)
        full, rest = divmod(stage.rows, cap)
        seconds = full * self._costs.batch_s(stage.kind, cap)
        return seconds + (self._costs.batch_s(stage.kind, rest) if rest else 0.0)

    def _next_waiting(self) -> Entry:
        self._admissions += 1
        if self._admissions % OLDEST_EVERY == 0:
            return next(iter(self._waiting.values()))
        while True:
            _, _, entry = heapq.heappop(self._by_work)
            # Those admitted as the oldest, or removed, are still in the heap.
            if self._waiting.get(entry.request_id) is entry:
                return entry

    def _begin_stage(self, entry: Entry) -> None:
        entry.weigh(self._costs)
        rows = entry.plan[entry.stage].rows
        entry.pending.extend(range(rows))
        entry.outstanding = rows

    def _filling(self, lead: Entry, ready: list[Entry]) -> Iterator[Entry]:
        """Yield the lead and then, by rank, the others whose rows are of its kind."""
        yield lead
        others = [e for e in ready if e is not lead and e.kind == lead.kind]
        yield from sorted(others, key=lambda e: (e.rank, e.number))
