"""Calls that wait for their pictures, over an engine's steps."""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable

import numpy as np
from jaxtyping import UInt8

from nullscale.maths.degradations import Degradation
from nullscale.maths.params import UpscaleParams
from nullscale.maths.problem import Downscale
from sr_engine.events import Event, RequestFailure, StepEvent, UpscaleResult
from sr_engine.model import Model
from sr_engine.request import UpscaleRequest


class BlockingCalls(ABC):
    """What may be built on an engine's `add_request`, `step` and `abort`.

    Requests of others go on meanwhile, but their events are lost.
    """

    @property
    @abstractmethod
    def model(self) -> Model:
        """The model that every request shares."""

    @abstractmethod
    def add_request(self, request: UpscaleRequest) -> None:
        """Queue a request."""

    @abstractmethod
    def step(self) -> list[Event]:
        """Run one batch and return what became of the requests in it."""

    @abstractmethod
    def abort(self, request_id: str) -> list[Event]:
        """Take a request out, wherever it stands."""

    def upscale(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        params: UpscaleParams | None = None,
        *,
        downscale: Downscale = "bicubic",
        degradation: Degradation | None = None,
        on_step: Callable[[StepEvent], None] = lambda event: None,
    ) -> UpscaleResult:
        """Upscale one 8-bit sRGB picture and wait for it; by default with the model's parameters.

        Args:
            downscale: how it became small.
            degradation: what has happened to the picture besides being small, to be undone.

        Raises:
            InvalidImage: ``image`` is no [h, w, 3] array of uint8.
            InvalidParameter: the scale is none for this downscale.
            EngineError: the model failed on it.
        """
        request = UpscaleRequest(
            request_id=secrets.token_hex(8),
            image=image,
            params=params or self.model.defaults,
            downscale=downscale,
            degradation=degradation,
        )
        (result,) = self.results([request], on_step=on_step)
        return result

    def results(
        self,
        requests: Iterable[UpscaleRequest],
        *,
        on_step: Callable[[StepEvent], None] = lambda event: None,
    ) -> Generator[UpscaleResult]:
        """Work on requests in common batches; yield each one's result as it comes.

        Where that ends early, what is left of them is taken out.

        Raises:
            InvalidParameter: one asks for a draft where the model has none.
            EngineError: one of them was refused, or the model failed on it.
        """
        waiting: set[str] = set()
        try:
            for request in requests:
                self.add_request(request)
                waiting.add(request.request_id)
            while waiting:
                for event in self.step():
                    if event.request_id not in waiting:
                        continue
                    if isinstance(event, RequestFailure):
                        raise event.error
                    if isinstance(event, StepEvent):
                        on_step(event)
                    elif isinstance(event, UpscaleResult):
                        waiting.remove(event.request_id)
                        yield event
        finally:
            for request_id in waiting:
                self.abort(request_id)
