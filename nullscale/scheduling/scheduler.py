"""Who steps next: batches of like tiles out of the requests under way. Never sees a tensor."""

import heapq
import math
from collections.abc import Callable, Collection, Iterator

from nullscale.scheduling.entry import Entry, rows_of
from nullscale.scheduling.estimates import OLDEST_EVERY, completion_s, queue_of, service_s
from nullscale.scheduling.work import CostModel, Plan, TileTask

Lead = Callable[[Collection[Entry], int], Entry]
"""Chooses, among those with pending rows, who leads the batch of the given number."""

Heap = list[tuple[float, int, Entry]]
"""Requests by a key, then by age."""

_WEIGH_EVERY = 64  # batches between two looks at the work of those that wait


def least_work_first(ready: Collection[Entry], batch: int) -> Entry:
    """Choose the least remaining work, but every fourth time the oldest, so that none starves."""
    if batch % OLDEST_EVERY == OLDEST_EVERY - 1:
        return min(ready, key=lambda entry: entry.number)
    return min(ready, key=lambda entry: (entry.rank, entry.number))


class Scheduler:
    """Forms batches of one kind, led by one request and filled up with the rows of others.

    At most ``max_active`` requests of ``max_active_pixels`` in all are under way, so that memory
    stays bounded; a larger one runs alone, but for small ones. The others wait, and are admitted by
    the same rule: least work, every fourth time the oldest. The last free place is kept for a
    request of less work than every active one, which would otherwise wait until a long one has
    ended.
    """

    def __init__(
        self,
        max_active: int,
        costs: CostModel,
        *,
        max_active_pixels: float = math.inf,
        lead: Lead = least_work_first,
    ) -> None:
        self.limit(max_active, max_active_pixels)
        self._costs = costs
        self._lead = lead
        self._count = 0
        self._batches = 0
        self._admissions = 0
        self._weigh_again = 0
        self._waiting: dict[str, Entry] = {}
        self._by_work: Heap = []
        self._by_deadline: Heap = []
        self._active: dict[str, Entry] = {}

    def limit(self, max_active: int, max_active_pixels: float) -> None:
        """Admit by other limits from now on; whoever is under way stays."""
        if max_active < 1:
            raise ValueError(f"max_active must be at least 1, not {max_active}")
        self._max_active, self._max_active_pixels = max_active, max_active_pixels

    def add(
        self,
        request_id: str,
        plan: Plan,
        *,
        priority: int = 0,
        deadline_s: float | None = None,
        pixels: int = 0,
    ) -> None:
        """Let a request wait for its admission."""
        entry = Entry(request_id, self._count, priority, deadline_s, pixels, plan, rows_of(plan))
        self._count += 1
        entry.weigh(self._costs)
        self._waiting[request_id] = entry
        self._push(self._by_work, entry.rank, entry)
        if deadline_s is not None:
            self._push(self._by_deadline, deadline_s, entry)

    def admit(self) -> list[str]:
        """Make waiting requests active while there is room; return them."""
        if self._batches >= self._weigh_again:
            self._weigh_again = self._batches + max(_WEIGH_EVERY, len(self._waiting))
            self._weigh_all()
        admitted = []
        while self._waiting and (entry := self._next_admitted()) is not None:
            del self._waiting[entry.request_id]
            self._active[entry.request_id] = entry
            if entry.plan:
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
        entry.weigh(self._costs)
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
            if self._is_here(entry):
                late.append(entry.request_id)
        return late

    def queue(self) -> list[tuple[str, float]]:
        """Return those that wait, least work first, each with the seconds until its end."""
        return queue_of(self._active.values(), self._waiting.values(), self._max_active)

    def completion_s(self, plan: Plan, *, priority: int = 0) -> float:
        """Return the seconds from now to the end of a new request, under the present load."""
        self._weigh_all()
        new = Entry("", self._count, priority, None, 0, plan, rows_of(plan))
        new.weigh(self._costs)
        return completion_s(
            new, self._active.values(), self._waiting.values(), self._max_active, self._costs
        )

    def measured(self, plan: Plan) -> bool:
        """Say whether every kind of a plan has been run before: estimates are then no guesses."""
        return all(self._costs.measured(stage.kind) for stage in plan)

    def service_s(self, plan: Plan) -> float:
        """Return the seconds that a request would take alone."""
        return service_s(plan, self._costs)

    def work_s(self) -> float:
        """Return the seconds of batched work of all requests that are here."""
        return sum(entry.work_s for entry in (*self._active.values(), *self._waiting.values()))

    def has_work(self) -> bool:
        """Say whether any request waits or is active."""
        return bool(self._waiting or self._active)

    def _next_admitted(self) -> Entry | None:
        """Return who is to become active now, if there is room for it."""
        free = self._max_active - len(self._active)
        if free <= 0:
            return None
        kept = free == 1 < self._max_active
        if not kept and self._admissions % OLDEST_EVERY == OLDEST_EVERY - 1:
            # The turn stands until there is room.
            oldest = next(iter(self._waiting.values()))
            entry = oldest if self._has_room(oldest) else None
        else:
            # Those admitted as the oldest, or removed, are still in the heap.
            while self._waiting.get(self._by_work[0][2].request_id) is not self._by_work[0][2]:
                heapq.heappop(self._by_work)
            entry = self._by_work[0][2]
            if not self._has_room(entry):
                fitting = (other for other in self._waiting.values() if self._has_room(other))
                entry = min(fitting, key=lambda other: (other.rank, other.number), default=None)
        if entry is None:
            return None
        if not kept:
            self._admissions += 1
        elif any(entry.rank >= other.rank for other in self._active.values()):
            return None
        return entry

    def _has_room(self, entry: Entry) -> bool:
        # The small always do: together they hold a quarter more than the bound, at the most.
        if entry.pixels <= self._max_active_pixels / (4 * self._max_active):
            return True
        held = sum(other.pixels for other in self._active.values())
        return not held or held + entry.pixels <= self._max_active_pixels

    def _weigh_all(self) -> None:
        """Count everyone's work at present costs, which change as batches are measured."""
        for entry in (*self._active.values(), *self._waiting.values()):
            entry.weigh(self._costs)
        self._by_work = [(e.rank, e.number, e) for e in self._waiting.values()]
        heapq.heapify(self._by_work)

    def _push(self, heap: Heap, key: float, entry: Entry) -> None:
        # What has gone stays in a heap until its turn comes, which may be never.
        if len(heap) > 2 * (len(self._waiting) + len(self._active)) + 64:
            heap[:] = [item for item in heap if self._is_here(item[2])]
            heapq.heapify(heap)
        heapq.heappush(heap, (key, entry.number, entry))

    def _is_here(self, entry: Entry) -> bool:
        known = self._active.get(entry.request_id) or self._waiting.get(entry.request_id)
        return known is entry

    def _begin_stage(self, entry: Entry) -> None:
        rows = entry.plan[entry.stage].rows
        entry.pending.extend(range(rows))
        entry.outstanding = rows

    def _filling(self, lead: Entry, ready: list[Entry]) -> Iterator[Entry]:
        """Yield the lead and then, by rank, the others whose rows are of its kind."""
        yield lead
        others = [e for e in ready if e is not lead and e.kind == lead.kind]
        yield from sorted(others, key=lambda e: (e.rank, e.number))
