"""The part of Serve's handles that is used here; tests bring their own."""

from collections.abc import AsyncIterable, Awaitable
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import UInt8

from deployments.messages import ModelDescription, UpscaleReply
from nullscale.maths.params import Value
from sr_engine.events import Progress

T_co = TypeVar("T_co", covariant=True)


class Response(Awaitable[T_co], Protocol[T_co]):
    """An answer on its way, as Serve's `DeploymentResponse`."""

    def cancel(self) -> None:
        """Give the call up; the replica's coroutine is cancelled."""


class Stream(AsyncIterable[T_co], Protocol[T_co]):
    """Answers on their way, as Serve's `DeploymentResponseGenerator`."""

    def cancel(self) -> None:
        """Give the call up; the replica's generator is cancelled."""


class PictureMethod(Protocol[T_co]):
    """`Upscaler.upscale` through a handle, or `Upscaler.events` through a streaming one."""

    def remote(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        params: dict[str, Value],
        request_id: str,
        until_s: float,
    ) -> T_co:
        """Send a picture to some replica."""


class DescribeMethod(Protocol):
    """`Upscaler.describe` through a handle."""

    def remote(self) -> Response[ModelDescription]:
        """Ask some replica for its model."""


class UpscalerHandle(Protocol):
    """The part of `DeploymentHandle`."""

    @property
    def upscale(self) -> PictureMethod[Response[UpscaleReply]]:
        """Upscale a picture."""

    @property
    def events(self) -> PictureMethod[Stream[Progress | UpscaleReply]]:
        """Upscale a picture and tell how it goes; of a streaming handle."""

    @property
    def describe(self) -> DescribeMethod:
        """Describe the model."""

    def options(self, *, stream: bool) -> "UpscalerHandle":
        """A handle to the same replicas, whose methods stream."""
