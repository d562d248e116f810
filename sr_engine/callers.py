"""Who waits for a request on which event loop, and is told of it from another thread."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nullscale.errors import NullscaleError
from sr_engine.events import Event, Progress, QueuedEvent, RequestFailure, StepEvent, UpscaleResult


@dataclass(slots=True, eq=False)
class Caller:
    """Who waits for a request: its events and its end go to ``loop``."""

    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[UpscaleResult]"
    on_event: Callable[[Progress], None]
    position: int = -1

    def tell(self, event: Progress) -> None:
        """Tell the caller what became of its request so far."""
        self._call(self.on_event, event)

    def end(self, event: UpscaleResult | RequestFailure) -> None:
        """Give the caller its result, or the error."""
        self._call(_settle, self.future, event)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        # A caller whose event loop has closed is gone; its request ends unheard.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)


class Callers:
    """Those that wait, by request."""

    def __init__(self) -> None:
        self._waiting: dict[str, Caller] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request_id: str, caller: Caller) -> None:
        """Let a caller wait for the events of a request."""
        self._waiting[request_id] = caller

    def has(self, request_id: str, caller: Caller) -> bool:
        """Say whether this very caller waits for a request."""
        return self._waiting.get(request_id) is caller

    def deliver(self, events: Iterable[Event]) -> None:
        """Tell each event to whom it concerns; who has heard the end waits no more."""
        for event in events:
            if isinstance(event, StepEvent | QueuedEvent):
                self._waiting[event.request_id].tell(event)
                continue
            caller = self._waiting.pop(event.request_id, None)
            if caller is not None:
                caller.end(event)

    def tell_positions(self, queue: Iterable[QueuedEvent]) -> None:
        """Tell those that wait in a queue where they stand, where that has changed."""
        for event in queue:
            caller = self._waiting[event.request_id]
            if caller.position != event.position:
                caller.position = event.position
                caller.tell(event)

    def fail(self, error: NullscaleError) -> None:
        """Let every request end with this error."""
        self.deliver([RequestFailure(request_id, error) for request_id in self._waiting])


def _settle(future: "asyncio.Future[UpscaleResult]", event: UpscaleResult | RequestFailure) -> None:
    if future.done():
        return
    if isinstance(event, UpscaleResult):
        future.set_result(event)
    else:
        future.set_exception(event.error)
