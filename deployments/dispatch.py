"""From the ingress to a replica: one deadline, retries, and cancellation that reaches it."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TypeVar

from ray.exceptions import (
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    RayActorError,
    RayError,
    RayTaskError,
)
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.cold_start import ColdStart
from deployments.handles import Response, UpscalerHandle
from deployments.kinds import RETRY_AFTER_S
from deployments.messages import ModelDescription, Order, UpscaleReply
from deployments.problems import Problem, problem_of
from deployments.retries import RetryBudget
from nullscale.errors import EngineDead, EngineOverloaded, NullscaleError
from sr_engine.events import Progress

logger = logging.getLogger(__name__)

ATTEMPTS = 3
DESCRIBE_TIMEOUT_S = 2.0
KNOWN_TIMEOUT_S = 10.0
LOST = (RayActorError, ObjectLostError, EngineDead)

T = TypeVar("T")
OnEvent = Callable[[Progress], None]


class Dispatcher:
    """Sends pictures to replicas and remembers what they last said of themselves.

    Args:
        timeout_s: longest that a picture may take, which is as long as replicas may be too busy to
            describe themselves.
        running: asks how many replicas run; may block.
        retry_after_s: asked when the replicas' queue is full.
        on_retry: told of each picture that goes to another replica after one was lost.
        cold_start_s: a guess of how long a replica takes to start, where it may be that none runs:
            pictures then wait for the first; None where some always do.
    """

    def __init__(
        self,
        upscaler: UpscalerHandle,
        timeout_s: float,
        *,
        running: Callable[[], int],
        retry_after_s: Callable[[], float] = lambda: RETRY_AFTER_S,
        on_retry: Callable[[], None] = lambda: None,
        cold_start_s: float | None = None,
    ) -> None:
        self.cold = ColdStart(cold_start_s, running)
        self._upscaler = upscaler
        self._streaming = upscaler.options(stream=True)
        self._timeout_s = timeout_s
        self._running = running
        self._retry_after_s = retry_after_s
        self._on_retry = on_retry
        self._budget = RetryBudget()
        self._description: ModelDescription | None = None
        self._asking: asyncio.Task[ModelDescription] | None = None
        self._counting: asyncio.Task[int] | None = None
        self._answered_s = -float("inf")

    async def upscale(
        self, order: Order, request_id: str, on_event: OnEvent | None = None
    ) -> UpscaleReply:
        """Upscale a picture; its seed is fixed, so that a second try gives the same one.

        Args:
            on_event: told where the picture stands in a replica's queue, and of each step.

        Raises:
            Problem: no replica could do it in time.
        """
        assert order.params.seed is not None
        self._budget.deposit()
        try:
            async with asyncio.timeout(order.until_s - time.time()):
                await self.cold.asleep()
                reply = await self._persistently(order, request_id, on_event)
        except TimeoutError as err:
            detail = "the request did not end within its time"
            raise self._come_again("deadline_exceeded", detail) from err
        except BackPressureError as err:
            raise self._come_again("overloaded", "too many requests wait already") from err
        except (OutOfDiskError, ObjectStoreFullError) as err:
            raise self._come_again("overloaded", "there is no room for the picture") from err
        except DeploymentUnavailableError as err:
            raise self._come_again("not_ready", "no worker is ready") from err
        except NullscaleError as err:
            raise problem_of(cause_of(err)) from err
        self._answered_s = time.monotonic()
        self.cold.measured(reply.start_s)
        if self._description is not None and self._description.name != reply.model:
            # In an upgrade the first to be asked may have been an old one.
            self._ask()
        return reply

    async def describe(self) -> ModelDescription:
        """The model that the replicas have loaded; the last known one while they are busy.

        While all sleep it is the last known one too: to be asked would wake them up.

        Raises:
            Problem: no replica is ready.
        """
        if self._description is not None and await self.cold.asleep(now=True):
            return self._description
        return await self._describe(DESCRIBE_TIMEOUT_S)

    async def ready(self) -> bool:
        """Say whether any replica is awake; while all sleep none is asked, which would wake one.

        Raises:
            Problem: no replica is ready.
        """
        if await self.cold.asleep(now=True):
            return False
        await self._describe(DESCRIBE_TIMEOUT_S)
        return True

    async def known(self) -> ModelDescription:
        """The description at hand; replicas are asked only where there is none.

        The question waits its turn among the pictures, for all who want to know: as long as theirs
        may where replicas run, as in an ingress that is new among full ones. Where none does, they
        wait for a while only, in which one can start where it may be that none runs.

        Raises:
            Problem: no replica has answered yet.
        """
        if self._description is not None:
            return self._description
        asking = self._ask()
        done, _ = await asyncio.wait({asking}, timeout=KNOWN_TIMEOUT_S + 2 * self.cold.start_s)
        if not done and not await self._any_running():
            raise self._come_again("not_ready", "no worker is ready", close=True)
        try:
            # It goes on without those who give up the wait.
            return await asyncio.shield(asking)
        except Problem as err:
            raise self._come_again("not_ready", "no worker is ready", close=True) from err

    def _ask(self) -> asyncio.Task[ModelDescription]:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._describe(self._timeout_s, ATTEMPTS))
            # Where nobody waits any more, what went wrong is nobody's.
            self._asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._asking

    async def _describe(self, timeout_s: float, attempts: int = 1) -> ModelDescription:
        try:
            async with asyncio.timeout(timeout_s):
                self._description = await self._asked(attempts)
                self._answered_s = time.monotonic()
                self.cold.measured(self._description.start_s)
        except (TimeoutError, BackPressureError):
            # Full replicas answer nothing but pictures, for as long as their longest job takes.
            recent = time.monotonic() - self._answered_s < self._timeout_s
            if self._description is None or not recent or not await self._any_running():
                raise self._come_again("not_ready", "no worker is ready") from None
        except (*LOST, DeploymentUnavailableError) as err:
            self._answered_s = -float("inf")
            raise self._come_again("not_ready", "no worker is ready") from err
        assert self._description is not None
        return self._description

    async def _asked(self, attempts: int) -> ModelDescription:
        """Ask a replica for its description, and another where one is lost on the question."""
        for _ in range(attempts - 1):
            with suppress(*LOST):
                return await settled(self._upscaler.describe.remote())
        return await settled(self._upscaler.describe.remote())

    async def _any_running(self) -> bool:
        """Say whether any replica runs; Serve is asked once for all who want to know."""
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(asyncio.to_thread(self._running))
        try:
            return await asyncio.shield(self._counting) > 0
        except RayError:
            # Without its controller Serve knows nothing, and its replicas go on.
            return True

    async def _persistently(
        self, order: Order, request_id: str, on_event: OnEvent | None
    ) -> UpscaleReply:
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(order, request_id, on_event)
            except EngineOverloaded:
                # Another one may have less to do. More than one of them would make it worse.
                if attempt > 1:
                    raise
            except LOST as err:
                self._answered_s = -float("inf")
                extra = {"request_id": request_id}
                logger.warning(
                    "request %s lost a replica, try %d", request_id, attempt, extra=extra
                )
                if attempt == ATTEMPTS or not self._budget.spend():
                    detail = f"{attempt} workers were lost on this request"
                    raise self._come_again("replica_lost", detail) from err
                self._on_retry()

    async def _attempt(
        self, order: Order, request_id: str, on_event: OnEvent | None
    ) -> UpscaleReply:
        values = {k: v for k, v in asdict(order.params).items() if v is not None}
        call = order.source.samples, values, request_id, order.until_s
        if on_event is None:
            return await settled(self._upscaler.upscale.remote(*call))
        stream = self._streaming.events.remote(*call)
        try:
            async for event in stream:
                if isinstance(event, UpscaleReply):
                    return event
                on_event(event)
        except BaseException:
            stream.cancel()
            raise
        raise EngineDead("the replica's events ended early")

    def _come_again(self, code: str, detail: str, *, close: bool = False) -> Problem:
        retry_after_s = self._retry_after_s() + self.cold.wait_s
        return Problem(code, detail, retry_after_s=retry_after_s, close=close)


async def settled(response: Response[T]) -> T:
    """Wait for a response. Giving up the wait gives up the call, which Serve does not do itself."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


def cause_of(error: NullscaleError) -> NullscaleError:
    """What the replica raised; Ray's copy of it has a stack trace for a text."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, NullscaleError):
        return error.cause
    return error
