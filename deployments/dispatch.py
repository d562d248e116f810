"""From the ingress to a replica: one deadline, one retry, and cancellation that reaches it."""

import asyncio
import logging
import time
from collections.abc import Awaitable
from dataclasses import asdict
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import UInt8
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.problems import Problem, problem_of
from deployments.schemas import ModelDescription, UpscaleReply
from sr_engine.errors import EngineDead, EngineOverloaded, NullscaleError
from sr_engine.request import UpscaleParams, Value

logger = logging.getLogger(__name__)

ATTEMPTS = 2
RETRY_AFTER_S = 5.0
DESCRIBE_TIMEOUT_S = 2.0

T_co = TypeVar("T_co", covariant=True)


class Response(Awaitable[T_co], Protocol[T_co]):
    """An answer on its way, as Serve's `DeploymentResponse`."""

    def cancel(self) -> None:
        """Give the call up; the replica's coroutine is cancelled."""


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
    def describe(self) -> DescribeMethod:
        """Describe the model."""


class Dispatcher:
    """Sends pictures to replicas and remembers what they last said of themselves."""

    def __init__(self, upscaler: UpscalerHandle, timeout_s: float) -> None:
        self._upscaler = upscaler
        self._timeout_s = timeout_s
        self._description: ModelDescription | None = None
        self._answered_s = -float("inf")

    async def upscale(
        self, image: UInt8[np.ndarray, "h w 3"], params: UpscaleParams, request_id: str
    ) -> UpscaleReply:
        """Upscale a picture; ``params`` names its seed, so that a second try gives the same one.

        Raises:
            Problem: no replica could do it in time.
        """
        assert params.seed is not None
        until_s = time.time() + self._timeout_s
        refusal: EngineOverloaded | None = None
        values = {name: value for name, value in asdict(params).items() if value is not None}
        try:
            async with asyncio.timeout(self._timeout_s):
                for attempt in range(1, ATTEMPTS + 1):
                    try:
                        reply = await _settled(
                            self._upscaler.upscale.remote(image, values, request_id, until_s)
                        )
                    except EngineOverloaded as err:
                        # Another one may have less to do.
                        refusal = err
                        continue
                    except (RayActorError, ObjectLostError, EngineDead):
                        self._answered_s = -float("inf")
                        logger.warning("request %s lost its replica, try %d", request_id, attempt)
                        continue
                    self._answered_s = time.monotonic()
                    return reply
        except TimeoutError as err:
            detail = f"the request did not end within {self._timeout_s:g} s"
            raise Problem("deadline_exceeded", detail, retry_after_s=RETRY_AFTER_S) from err
        except BackPressureError as err:
            raise _come_again("overloaded", "too many requests wait already") from err
        except DeploymentUnavailableError as err:
            raise _come_again("not_ready", "no worker is ready") from err
        except NullscaleError as err:
            raise problem_of(_cause(err)) from err
        if refusal is not None:
            raise problem_of(_cause(refusal)) from refusal
        raise _come_again("replica_lost", f"{ATTEMPTS} workers were lost on this request")

    async def describe(self, timeout_s: float = DESCRIBE_TIMEOUT_S) -> ModelDescription:
        """The model that the replicas have loaded; the last known one while they are busy.

        Raises:
            Problem: no replica is ready.
        """
        try:
            async with asyncio.timeout(timeout_s):
                self._description = await _settled(self._upscaler.describe.remote())
                self._answered_s = time.monotonic()
        except (TimeoutError, BackPressureError):
            # Full replicas answer nothing but pictures, for as long as their longest job takes.
            busy = time.monotonic() - self._answered_s < self._timeout_s
            if not busy or self._description is None:
                raise _come_again("not_ready", "no worker is ready") from None
        except (RayActorError, ObjectLostError, EngineDead, DeploymentUnavailableError) as err:
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


async def _settled(response: Response[T_co]) -> T_co:
    """Wait for a response. Giving up the wait gives up the call, which Serve does not do itself."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


def _cause(error: NullscaleError) -> NullscaleError:
    """What the replica raised; Ray's copy of it has a stack trace for a text."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, NullscaleError):
        return error.cause
    return error


def _come_again(code: str, detail: str) -> Problem:
    return Problem(code, detail, retry_after_s=RETRY_AFTER_S)
