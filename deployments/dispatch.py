"""From the ingress to a replica: one deadline, retries, and cancellation that reaches it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import asdict
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import UInt8
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.problems import Problem, problem_of
from deployments.retries import RetryBudget
from deployments.schemas import ModelDescription, Order, UpscaleReply
from sr_engine.errors import EngineDead, EngineOverloaded, NullscaleError
from sr_engine.events import Progress
from sr_engine.request import Value

logger = logging.getLogger(__name__)

ATTEMPTS = 3
RETRY_AFTER_S = 5.0
DESCRIBE_TIMEOUT_S = 2.0
LOST = (RayActorError, ObjectLostError, EngineDead)

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
OnEvent = Callable[[Progress], None]


class Response(Awaitable[T_co], Protocol[T_co]):
    """An answer on its way, as Serve's `DeploymentResponse`."""

    def cancel(self) -> None:
        """Give the call up; the replica's coroutine is cancelled."""


class Stream(AsyncIterable[T_co], Protocol[T_co]):
    """Answers on their way, as Serve's `DeploymentResponseGenerator`."""

    def cancel(self) -> None:
        """Give the call up; the replica's generator is cancelled."""


class UpscaleMethod(Protocol):
    """`Upscaler.upscale` through a handle."""

    def remote(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        params: dict[str, Value],
        request_id: str,
        until_s: float,
    ) -> Response[UpscaleReply]:
        """Send a picture to some replica."""


class EventsMethod(Protocol):
    """`Upscaler.events` through a streaming handle."""

    def remote(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        params: dict[str, Value],
        request_id: str,
        until_s: float,
    ) -> Stream[Progress | UpscaleReply]:
        """Send a picture to some replica."""


class DescribeMethod(Protocol):
    """`Upscaler.describe` through a handle."""

    def remote(self) -> Response[ModelDescription]:
        """Ask some replica for its model."""


class UpscalerHandle(Protocol):
    """The part of Serve's `DeploymentHandle` that is used here; tests bring their own."""

    @property
    def upscale(self) -> UpscaleMethod:
        """Upscale a picture."""

    @property
    def events(self) -> EventsMethod:
        """Upscale a picture and tell how it goes; of a streaming handle."""

    @property
    def describe(self) -> DescribeMethod:
        """Describe the model."""

    def options(self, *, stream: bool) -> "UpscalerHandle":
        """A handle to the same replicas, whose methods stream."""


class Dispatcher:
    """Sends pictures to replicas and remembers what they last said of themselves.

    Args:
        timeout_s: longest that a picture may take, which is as long as replicas may be too busy to
            describe themselves.
        on_retry: told of each picture that goes to another replica after one was lost.
    """

    def __init__(
        self,
        upscaler: UpscalerHandle,
        timeout_s: float,
        *,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self._upscaler = upscaler
        self._streaming = upscaler.options(stream=True)
        self._timeout_s = timeout_s
        self._on_retry = on_retry
        self._budget = RetryBudget()
        self._description: ModelDescription | None = None
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
                reply = await self._persistently(order, request_id, on_event)
        except TimeoutError as err:
            detail = "the request did not end within its time"
            raise Problem("deadline_exceeded", detail, retry_after_s=RETRY_AFTER_S) from err
        except BackPressureError as err:
            raise _come_again("overloaded", "too many requests wait already") from err
        except DeploymentUnavailableError as err:
            raise _come_again("not_ready", "no worker is ready") from err
        except NullscaleError as err:
            raise problem_of(cause_of(err)) from err
        self._answered_s = time.monotonic()
        return reply

    async def describe(self, timeout_s: float = DESCRIBE_TIMEOUT_S) -> ModelDescription:
        """The model that the replicas have loaded; the last known one while they are busy.

        Raises:
            Problem: no replica is ready.
        """
        try:
            async with asyncio.timeout(timeout_s):
                self._description = await settled(self._upscaler.describe.remote())
                self._answered_s = time.monotonic()
        except (TimeoutError, BackPressureError):
            # Full replicas answer nothing but pictures, for as long as their longest job takes.
            busy = time.monotonic() - self._answered_s < self._timeout_s
            if not busy or self._description is None:
                raise _come_again("not_ready", "no worker is ready") from None
        except (*LOST, DeploymentUnavailableError) as err:
            self._answered_s = -float("inf")
            raise _come_again("not_ready", "no worker is ready") from err
        assert self._description is not None
        return self._description

    async def known(self) -> ModelDescription:
        """The description at hand; replicas are asked only where there is none.

        The question waits its turn among the pictures, as the picture after it will.

        Raises:
            Problem: no replica is ready.
        """
        return self._description or await self.describe(self._timeout_s)

    async def _persistently(
        self, order: Order, request_id: str, on_event: OnEvent | None
    ) -> UpscaleReply:
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(order, request_id, on_event)
            except EngineOverloaded:
                # Another one may have less to do.
                if attempt == ATTEMPTS:
                    raise
            except LOST as err:
                self._answered_s = -float("inf")
                extra = {"request_id": request_id}
                logger.warning(
                    "request %s lost a replica, try %d", request_id, attempt, extra=extra
                )
                if attempt == ATTEMPTS or not self._budget.spend():
                    raise _come_again(
                        "replica_lost", f"{attempt} workers were lost on this request"
                    ) from err
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
        except asyncio.CancelledError:
            stream.cancel()
            raise
        raise EngineDead("the replica's events ended early")


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


def _come_again(code: str, detail: str) -> Problem:
    return Problem(code, detail, retry_after_s=RETRY_AFTER_S)
