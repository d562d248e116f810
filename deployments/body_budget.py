"""How many bytes of bodies one process holds at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deployments.kinds import RETRY_AFTER_S
from deployments.problems import Problem


class BodyBudget:
    """Bytes for the bodies under way: taken as they arrive, given back when a form is done with.

    Attributes:
        held_bytes: of all bodies, at present.
        max_bytes: that they may be.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0

    @contextmanager
    def body(self) -> Iterator[Callable[[int], None]]:
        """Give one body a function that takes room for a chunk; all of it is free at the end.

        Raises:
            Problem: in the function, where there is no room.
        """
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self.held_bytes + count > self.max_bytes:
                detail = "too many bodies are under way already"
                raise Problem("overloaded", detail, retry_after_s=RETRY_AFTER_S, close=True)
            self.held_bytes += count
            taken += count

        try:
            yield take
        finally:
            self.held_bytes -= taken
