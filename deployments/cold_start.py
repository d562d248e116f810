"""Whether any worker runs, where none needs to, and how long one takes to start."""

import asyncio
import time
from collections.abc import Callable

from ray.exceptions import RayError

ASK_EVERY_S = 1.0
ANSWER_WITHIN_S = 1.0


class ColdStart:
    """What a picture waits for at zero replicas.

    Args:
        least_s: seconds of a start at the least, its node's included, of which a replica does not
            know when it tells how long its own took; None where at least one replica always runs,
            and nobody has to wait for the first.
        running: asks how many run; may block.
    """

    def __init__(
        self,
        least_s: float | None,
        running: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._least_s = least_s
        self._running = running
        self._clock = clock
        self._measured_s = 0.0
        self._asleep = False
        self._asked_s = -float("inf")
        self._asking: asyncio.Task[None] | None = None

    @property
    def allowed(self) -> bool:
        """Zero replicas are no fault."""
        return self._least_s is not None

    @property
    def start_s(self) -> float:
        """Seconds that a replica takes to start; 0 where nobody waits for the first."""
        if self._least_s is None:
            return 0.0
        return max(self._least_s, self._measured_s)

    @property
    def wait_s(self) -> float:
        """Seconds until there will be a worker, by what was last heard; 0 where there is one."""
        return self.start_s if self._asleep else 0.0

    def measured(self, start_s: float) -> None:
        """Take note of how long a replica took to start; one runs."""
        self._measured_s = start_s
        self._asleep = False

    async def asleep(self, *, now: bool = False) -> bool:
        """Say whether no worker runs, and none needs to; Serve is asked for all callers at once.

        No answer within a second of the question counts as no: what only waits for a silent
        controller must not hold pictures up that replicas could take.

        Args:
            now: not by what was heard within the last second. Who would ask a worker next needs
                it: a question to the last one, just gone, would start another.
        """
        if not self.allowed:
            return False
        asking = self._asking
        if asking is None or asking.done():
            if not now and self._clock() - self._asked_s < ASK_EVERY_S:
                return self._asleep
            self._asked_s = self._clock()
            self._asking = asking = asyncio.create_task(self._ask())
        left_s = self._asked_s + ANSWER_WITHIN_S - self._clock()
        # It goes on without those who give up the wait.
        done, _ = await asyncio.wait({asking}, timeout=max(0.0, left_s))
        if done:
            asking.result()
        else:
            self._asleep = False
        return self._asleep

    async def _ask(self) -> None:
        try:
            self._asleep = await asyncio.to_thread(self._running) == 0
        except RayError:
            # Without its controller Serve starts nobody either; replicas that run go on.
            self._asleep = False
