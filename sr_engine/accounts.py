"""What each request has cost the engine so far."""

from collections.abc import Sequence


class Accounts:
    """Seconds by request, from its arrival to its end, repeats included.

    A step's wall time is divided evenly among the rows of its batch, so that all accounts together
    grow by the time in which the engine had something to do.
    """

    def __init__(self) -> None:
        self._spent_s: dict[str, float] = {}

    def open(self, request_id: str) -> None:
        """Begin an account."""
        self._spent_s[request_id] = 0.0

    def charge(self, request_ids: Sequence[str], seconds: float) -> None:
        """Divide seconds among requests; one that is named twice pays twice its share."""
        for request_id in request_ids:
            if request_id in self._spent_s:
                self._spent_s[request_id] += seconds / len(request_ids)

    def close(self, request_id: str) -> float:
        """End an account; return what was in it."""
        return self._spent_s.pop(request_id, 0.0)
