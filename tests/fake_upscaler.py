"""A replica that answers in this process, in place of Serve's handle."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from deployments.schemas import ModelDescription, UpscaleReply
from sr_engine.operators import output_side
from sr_engine.request import UpscaleParams

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


class FakeUpscaler:
    """A handle. ``errors`` are raised first, one a call; then every picture is answered.

    The answer is grey noise of the request's seed, unless the input is flat: then it is flat too,
    and consistent with it. ``echo`` answers with the input itself, each pixel repeated.
    """

    def __init__(
        self, *errors: Exception, prompts: bool = False, delay_s: float = 0.0, echo: bool = False
    ) -> None:
        self.errors = list(errors)
        self.delay_s = delay_s
        self.echo = echo
        self.calls: list[dict[str, Any]] = []
        self.upscale = FakeMethod(self._upscale)
        self.describe = FakeMethod(self._describe)
        self.describe_errors: list[Exception] = []
        self.description = ModelDescription(
            name="fake",
            native_px=64,
            parameters=12,
            device="cpu",
            dtype="float32",
            prompts=prompts,
            draft=False,
            defaults=UpscaleParams(num_inference_steps=5),
        )

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
        elif image.min() == image.max():
            answer = np.full(shape, image.min(), np.uint8)
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
        )

    async def _describe(self) -> ModelDescription:
        if self.describe_errors:
            raise self.describe_errors.pop(0)
        return self.description
