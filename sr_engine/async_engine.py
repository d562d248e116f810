"""The engine behind one thread: commands in, futures and event streams out."""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial

from nullscale.errors import EngineDead, EngineDraining, NullscaleError
from nullscale.maths.params import UpscaleParams
from nullscale.scheduling.work import Caps
from sr_engine.callers import Caller, Callers
from sr_engine.engine import SREngine
from sr_engine.events import Progress, RequestFailure, UpscaleResult
from sr_engine.request import UpscaleRequest

logger = logging.getLogger(__name__)

IDLE_WAIT_S = 0.5
QUEUE_NEWS_S = 0.5
HEARTBEAT_LIMIT_S = 120.0


class AsyncSREngine:
    """Owns an `SREngine` on a thread of its own; its methods may be called from any event loop.

    A batch that takes longer than ``heartbeat_limit_s`` counts as hung.
    """

    def __init__(self, engine: SREngine, *, heartbeat_limit_s: float = HEARTBEAT_LIMIT_S) -> None:
        self._engine = engine
        self._heartbeat_limit_s = heartbeat_limit_s
        # What the thread is asked to do between two batches.
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._callers = Callers()
        self._open = 0  # requests whose coroutine has not ended; of interest to `drain` alone
        self._open_lock = threading.Lock()
        self._draining = False
        self._closing = False
        self._told_s = 0.0
        self._heartbeat_s = time.monotonic()
        self._death: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="sr-engine", daemon=True)
        self._thread.start()

    @property
    def defaults(self) -> UpscaleParams:
        """The model's own parameters."""
        return self._engine.model.defaults

    @property
    def heartbeat_age_s(self) -> float:
        """Seconds since the thread last came round, between batches or twice a second."""
        return time.monotonic() - self._heartbeat_s

    async def upscale(
        self,
        request: UpscaleRequest,
        on_event: Callable[[Progress], None] = lambda event: None,
    ) -> UpscaleResult:
        """Upscale one picture; cancelling the call takes it out of the engine within one batch.

        Args:
            on_event: told, on the calling event loop, where the request stands in the queue and
                each step that it finishes.

        Raises:
            NullscaleError: what the request itself ran into.
            EngineDead: the engine ended before it.
            EngineDraining: the engine takes no more requests.
        """
        self.check_health()
        with self._open_lock:
            if self._draining:
                raise EngineDraining("the engine takes no more requests")
            self._open += 1
        loop = asyncio.get_running_loop()
        caller = Caller(loop, loop.create_future(), on_event)
        try:
            self._commands.put(partial(self._add, request, caller))
            if self._stopped:
                raise self._dead()
            return await caller.future
        except asyncio.CancelledError:
            self._commands.put(partial(self._abort, request.request_id, caller))
            raise
        finally:
            with self._open_lock:
                self._open -= 1

    async def events(
        self, request: UpscaleRequest
    ) -> AsyncGenerator[Progress | UpscaleResult, None]:
        """Upscale one picture and yield its events, its result last.

        Closing the iterator early takes the request out of the engine within one batch.

        Raises:
            NullscaleError: as `upscale`.
        """
        news: asyncio.Queue[Progress | None] = asyncio.Queue()
        work = asyncio.create_task(self.upscale(request, news.put_nowait))
        work.add_done_callback(lambda done: news.put_nowait(None))
        try:
            while (event := await news.get()) is not None:
                yield event
            yield await work
        finally:
            work.cancel()

    async def drain(self, poll_s: float = 0.05) -> None:
        """Take no more requests, and return when those that are here have ended."""
        with self._open_lock:
            self._draining = True
        while self._thread.is_alive() and (
            self._open or self._callers or not self._commands.empty()
        ):
            await asyncio.sleep(poll_s)

    def limit(self, caps: Caps) -> None:
        """Work by other caps from the next batch on; what is under way stays."""
        self._commands.put(partial(self._limit, caps))

    def check_health(self) -> None:
        """Do nothing while the engine lives.

        Raises:
            EngineDead: its thread has ended, or has not come round for too long.
        """
        if self._death is not None or not self._thread.is_alive():
            raise self._dead()
        silent_s = self.heartbeat_age_s
        if silent_s > self._heartbeat_limit_s:
            raise EngineDead(f"the engine has not finished a batch for {silent_s:.0f} s")

    def close(self) -> None:
        """End the thread after the batch under way; what is unfinished fails with `EngineDead`."""
        self._commands.put(self._close)
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._take_commands():
                self._heartbeat_s = time.monotonic()
                self._step()
                self._tell_queue()
        except BaseException as err:
            logger.critical("the engine's thread has ended", exc_info=err)
            self._death = err
        # Set before the last look at the queue: whoever comes after it sees this.
        self._stopped = True
        self._callers.fail(self._dead())
        while not self._commands.empty():
            self._commands.get()()

    def _take_commands(self) -> bool:
        """Do what was asked for since the last batch; return False to end."""
        idle = not self._engine.has_work()
        while not self._closing:
            try:
                command = self._commands.get(block=idle, timeout=IDLE_WAIT_S)
            except queue.Empty:
                return True
            idle = False
            self._told_s = 0.0
            command()
        return False

    def _step(self) -> None:
        # Its own scope: a thread that waits must not keep the last picture alive.
        if self._engine.has_work():
            self._callers.deliver(self._engine.step())

    def _tell_queue(self) -> None:
        """Tell those that wait where they stand, where that has changed."""
        if time.monotonic() - self._told_s < QUEUE_NEWS_S:
            return
        self._told_s = time.monotonic()
        self._callers.tell_positions(self._engine.queue())

    def _add(self, request: UpscaleRequest, caller: Caller) -> None:
        if self._stopped:
            caller.end(RequestFailure(request.request_id, self._dead()))
            return
        try:
            self._engine.add_request(request)
        except NullscaleError as err:
            caller.end(RequestFailure(request.request_id, err))
            return
        except BaseException:
            # The thread is about to end, and tells every caller that it knows.
            self._callers.add(request.request_id, caller)
            raise
        self._callers.add(request.request_id, caller)

    def _abort(self, request_id: str, caller: Caller) -> None:
        if self._callers.has(request_id, caller):
            self._callers.deliver(self._engine.abort(request_id))

    def _limit(self, caps: Caps) -> None:
        if not self._stopped:
            self._engine.limit(caps)

    def _close(self) -> None:
        self._closing = True

    def _dead(self) -> EngineDead:
        dead = EngineDead("the engine has stopped")
        dead.__cause__ = self._death
        return dead
