"""A replica that answers in this process, in place of Serve's handle."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from deployments.jobs import Jobs
from deployments.messages import ModelDescription, UpscaleReply
from nullscale.maths.operators import output_side
from nullscale.maths.params import UpscaleParams
from sr_engine.events import Progress, QueuedEvent, StepEvent

T = TypeVar("T")


class FakeResponse(Generic[T]):
    """Starts at once, as `DeploymentResponse` does; a cancelled wait leaves it running."""

    def __init__(self, work: Awaitable[T]) -> None:
        self._task = asyncio.ensure_future(work)
        self.cancelled = False

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.shield(self._task).__await__()

    def cancel(self) -> None:
        self.cancelled = True
        self._task.cancel()


@dataclass
class FakeMethod:
    """A method of the handle; ``responses`` holds what it has given out."""

    call: Callable[..., Awaitable[Any]]
    responses: list[FakeResponse[Any]] = field(default_factory=list)

    def remote(self, *args: Any) -> FakeResponse[Any]:
        response = FakeResponse(self.call(*args))
        self.responses.append(response)
        return response


class FakeStream(Generic[T]):
    """An answer in parts, as `DeploymentResponseGenerator`."""

    def __init__(self, items: AsyncGenerator[T, None]) -> None:
        self._items = items
        self.cancelled = False

    def __aiter__(self) -> "FakeStream[T]":
        return self

    async def __anext__(self) -> T:
        return await anext(self._items)

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeStreamMethod:
    """A generator method of a streaming handle."""

    call: Callable[..., AsyncGenerator[Any, None]]
    streams: list[FakeStream[Any]] = field(default_factory=list)

    def remote(self, *args: Any) -> FakeStream[Any]:
        stream = FakeStream(self.call(*args))
        self.streams.append(stream)
        return stream


class FakeJobs:
    """A handle to a `Jobs` of this process."""

    def __init__(self, jobs: Jobs) -> None:
        self.submit = FakeMethod(jobs.submit)
        self.status = FakeMethod(jobs.status)
        self.cancel = FakeMethod(jobs.cancel)
        self.result = FakeMethod(jobs.result)
        self.events = FakeStreamMethod(jobs.events)

    def options(self, *, stream: bool) -> "FakeJobs":
        return self


class FakeUpscaler:
    """A handle. ``errors`` are raised first, one a call; then every picture is answered.

    The answer is grey noise of the request's seed, unless the input is flat: then it is flat too,
    and consistent with it. ``echo`` answers with the input itself, each pixel repeated. While
    ``silent`` it does not describe itself.
    """

    def __init__(
        self, *errors: Exception, prompts: bool = False, delay_s: float = 0.0, echo: bool = False
    ) -> None:
        self.errors = list(errors)
        self.delay_s = delay_s
        self.work_s = 0.001
        self.echo = echo
        self.calls: list[dict[str, Any]] = []
        self.upscale = FakeMethod(self._upscale)
        self.events = FakeStreamMethod(self._events)
        self.describe = FakeMethod(self._describe)
        self.describe_errors: list[Exception] = []
        self.silent = False
        self.description = ModelDescription(
            name="fake",
            native_px=64,
            parameters=12,
            device="cpu",
            dtype="float32",
            prompts=prompts,
            draft=False,
            defaults=UpscaleParams(num_inference_steps=5),
            start_s=2.0,
            unit_s=0.5,
        )

    def options(self, *, stream: bool) -> "FakeUpscaler":
        return self

    async def _events(
        self, image: np.ndarray, params: dict[str, Any], request_id: str, until_s: float
    ) -> AsyncGenerator[Progress | UpscaleReply, None]:
        """One event of waiting, a step with a preview every ``delay_s``, and the reply."""
        steps = params["num_inference_steps"]
        yield QueuedEvent(request_id, 0, 1.0)
        for step in range(1, steps):
            await asyncio.sleep(self.delay_s)
            yield StepEvent(request_id, step, steps, 0.5, image)
        yield await self._upscale(image, params, request_id, until_s)

    async def _upscale(
        self, image: np.ndarray, params: dict[str, Any], request_id: str, until_s: float
    ) -> UpscaleReply:
        self.calls.append(
            {"params": params, "image": image, "request_id": request_id, "until_s": until_s}
        )
        await asyncio.sleep(self.delay_s)
        if self.errors:
            raise self.errors.pop(0)
        height, width, _ = image.shape
        shape = output_side(height, params["scale"]), output_side(width, params["scale"]), 3
        if self.echo:
            rows = np.arange(shape[0]) * height // shape[0]
            columns = np.arange(shape[1]) * width // shape[1]
            answer = image[rows][:, columns]
        elif (image == image[0, 0]).all():
            answer = np.full(shape, image[0, 0], np.uint8)
        else:
            rng = np.random.default_rng(params["seed"])
            answer = rng.integers(0, 256, shape, dtype=np.uint8)
        return UpscaleReply(
            image=answer,
            model=self.description.name,
            seed=params["seed"],
            reachable=True,
            queue_s=0.0,
            compute_s=0.001,
            work_s=self.work_s,
            start_s=self.description.start_s,
        )

    async def _describe(self) -> ModelDescription:
        while self.silent:
            await asyncio.sleep(0.01)
        if self.describe_errors:
            raise self.describe_errors.pop(0)
        return self.description
