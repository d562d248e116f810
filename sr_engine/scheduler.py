"""Who steps next: batches of like tiles out of the requests under way. Never sees a tensor."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """A network call of a step; only tiles in the same phase can share a batch."""

    DENOISE = "denoise"
    DECODE = "decode"
    ENCODE = "encode"


@dataclass(frozen=True, slots=True)
class TileTask:
    """One tile of one network call of one request: a row of some batch to come.

    Attributes:
        shape: height and width of the tile in latent cells.
        call: which of the calls that the request has open.
        index: which of the call's tiles.
    """

    request_id: str
    phase: Phase
    shape: tuple[int, int]
    call: int
    index: int


class Scheduler:
    """First come, first served, with rows of later requests filling up the first one's batch.

    At most ``max_active`` requests are under way, so that memory stays bounded; the rest wait.
    """

    def __init__(self, max_active: int, caps: Mapping[Phase, int]) -> None:
        self._max_active = max_active
        self._caps = dict(caps)
        self._waiting: deque[str] = deque()
        self._pending: dict[str, deque[TileTask]] = {}

    def add(self, request_id: str) -> None:
        """Put a request at the end of the queue."""
        self._waiting.append(request_id)

    def admit(self) -> list[str]:
        """Move requests from the queue to the active ones while there is room; return them."""
        admitted = []
        while self._waiting and len(self._pending) < self._max_active:
            request_id = self._waiting.popleft()
            self._pending[request_id] = deque()
            admitted.append(request_id)
        return admitted

    def submit(self, request_id: str, tasks: list[TileTask]) -> None:
        """Hand over the tiles that an active request needs next."""
        self._pending[request_id].extend(tasks)

    def next_batch(self) -> list[TileTask]:
        """Return rows of one phase and shape, led by the oldest active request; empty when idle."""
        lead = next((tasks[0] for tasks in self._pending.values() if tasks), None)
        if lead is None:
            return []
        batch: list[TileTask] = []
        cap = self._caps[lead.phase]
        for tasks in self._pending.values():
            while len(batch) < cap and tasks and _alike(tasks[0], lead):
                batch.append(tasks.popleft())
        return batch

    def remove(self, request_id: str) -> bool:
        """Forget a request, waiting or active; say whether it was there."""
        if request_id in self._pending:
            del self._pending[request_id]
            return True
        if request_id in self._waiting:
            self._waiting.remove(request_id)
            return True
        return False

    def has_work(self) -> bool:
        """Say whether any request waits or is active."""
        return bool(self._waiting or self._pending)


def _alike(task: TileTask, lead: TileTask) -> bool:
    return task.phase is lead.phase and task.shape == lead.shape
