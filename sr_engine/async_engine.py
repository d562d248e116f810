"""The engine behind one thread: commands in, futures and step events out."""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sr_engine.engine import Event, RequestFailure, SREngine, StepEvent
from sr_engine.errors import EngineDead, NullscaleError
from sr_engine.request import UpscaleRequest, UpscaleResult

logger = logging.getLogger(__name__)

IDLE_WAIT_S = 0.5
HEARTBEAT_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who waits for a request: results go to ``future`` on ``loop``."""

    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[UpscaleResult]"
    on_step: Callable[[StepEvent], None]


@dataclass(frozen=True, slots=True)
class _Add:
    request: UpscaleRequest
    caller: _Caller


@dataclass(frozen=True, slots=True)
class _Abort:
    request_id: str
    caller: _Caller


@dataclass(frozen=True, slots=True)
class _Close:
    pass


class AsyncSREngine:
    """Owns an `SREngine` on a thread of its own; its methods may be called from any event loop.

    A batch that takes longer than ``heartbeat_limit_s`` counts as hung.
    """

    def __init__(self, engine: SREngine, *, heartbeat_limit_s: float = HEARTBEAT_LIMIT_S) -> None:
        self._engine = engine
        self._heartbeat_limit_s = heartbeat_limit_s
        self._commands: queue.SimpleQueue[_Add | _Abort | _Close] = queue.SimpleQueue()
        self._callers: dict[str, _Caller] = {}
        self._heartbeat_s = time.monotonic()
        self._death: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="sr-engine", daemon=True)
        self._thread.start()

    async def upscale(
        self,
        request: UpscaleRequest,
        on_step: Callable[[StepEvent], None] = lambda event: None,
    ) -> UpscaleResult:
        """Upscale one picture; cancelling the call takes it out of the engine within one batch.

        Raises:
            NullscaleError: what the request itself ran into.
            EngineDead: the engine ended before it.
        """
        self.check_health()
        loop = asyncio.get_running_loop()
        caller = _Caller(loop, loop.create_future(), on_step)
        self._commands.put(_Add(request, caller))
        try:
            if self._stopped:
                raise EngineDead("the engine has stopped") from self._death
            return await caller.future
        except asyncio.CancelledError:
            self._commands.put(_Abort(request.request_id, caller))
            raise

    def check_health(self) -> None:
        """Do nothing while the engine lives.

        Raises:
            EngineDead: its thread has ended, or has not come round for too long.
        """
        if self._death is not None or not self._thread.is_alive():
            raise EngineDead("the engine has stopped") from self._death
        silent_s = time.monotonic() - self._heartbeat_s
        if silent_s > self._heartbeat_limit_s:
            raise EngineDead(f"the engine has not finished a batch for {silent_s:.0f} s")

    def close(self) -> None:
        """End the thread after the batch under way; what is unfinished fails with `EngineDead`."""
        self._commands.put(_Close())
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._take_commands():
                self._heartbeat_s = time.monotonic()
                self._step()
        except BaseException as err:
            logger.critical("the engine's thread has ended", exc_info=err)
            self._death = err
        # Set before the last look at the queue: whoever comes after it sees this.
        self._stopped = True
        dead = EngineDead("the engine has stopped")
        dead.__cause__ = self._death
        for request_id in list(self._callers):
            self._deliver(RequestFailure(request_id, dead))
        while not self._commands.empty():
            command = self._commands.get()
            if isinstance(command, _Add):
                self._callers[command.request.request_id] = command.caller
                self._deliver(RequestFailure(command.request.request_id, dead))

    def _take_commands(self) -> bool:
        """Carry out what was asked for since the last batch; return False to end."""
        idle = not self._engine.has_work()
        while True:
            try:
                command = self._commands.get(block=idle, timeout=IDLE_WAIT_S)
            except queue.Empty:
                return True
            idle = False
            if isinstance(command, _Close):
                return False
            if isinstance(command, _Abort):
                if self._callers.get(command.request_id) is command.caller:
                    self._deliver(*self._engine.abort(command.request_id))
            else:
                self._add(command)

    def _step(self) -> None:
        # Its own scope: a thread that waits must not keep the last picture alive.
        if self._engine.has_work():
            self._deliver(*self._engine.step())

    def _add(self, command: _Add) -> None:
        request_id = command.request.request_id
        try:
            self._engine.add_request(command.request)
        except NullscaleError as err:
            failure = RequestFailure(request_id, err)
            _call(command.caller.loop, _settle, command.caller.future, failure)
        except BaseException:
            # The thread is about to end, and tells every caller that it knows.
            self._callers[request_id] = command.caller
            raise
        else:
            self._callers[request_id] = command.caller

    def _deliver(self, *events: Event) -> None:
        for event in events:
            if isinstance(event, StepEvent):
                caller = self._callers[event.request_id]
                _call(caller.loop, caller.on_step, event)
            else:
                caller = self._callers.pop(event.request_id)
                _call(caller.loop, _settle, caller.future, event)


def _settle(future: "asyncio.Future[UpscaleResult]", event: UpscaleResult | RequestFailure) -> None:
    if future.done():
        return
    if isinstance(event, UpscaleResult):
        future.set_result(event)
    else:
        future.set_exception(event.error)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: object) -> None:
    # A caller whose event loop has closed is gone; its request ends unheard.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)
