"""The engine: requests in, one batch of tiles a step, results out."""

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from sr_engine.active import ActiveRequest
from sr_engine.costs import Costs
from sr_engine.errors import DeadlineExceeded, EngineError, NullscaleError, RequestAborted
from sr_engine.plan import canvas_of, plan_stages
from sr_engine.prompts import PromptEmbeddings
from sr_engine.request import MAX_SEED, UpscaleParams, UpscaleRequest, UpscaleResult
from sr_engine.runner import Model, Runner
from sr_engine.scheduler import Scheduler
from sr_engine.work import Phase, TileTask

logger = logging.getLogger(__name__)

# A 256-channel activation of 1024² reaches 2³¹ elements at eight rows: the autoencoder stays below.
ROW_LIMITS = {Phase.DENOISE: 16, Phase.DECODE: 4, Phase.ENCODE: 4}


@dataclass(frozen=True, slots=True)
class StepEvent:
    """A request finished a denoising step.

    Attributes:
        step: finished steps, from 1 up.
        of: steps in all.
        eta_s: expected seconds to the end.
    """

    request_id: str
    step: int
    of: int
    eta_s: float


@dataclass(frozen=True, slots=True)
class RequestFailure:
    """A request ended without a result."""

    request_id: str
    error: NullscaleError


Event = StepEvent | UpscaleResult | RequestFailure

# What networks, tokenizers and the maths raise on one request's numbers or for want of memory.
REQUEST_ERRORS = (
    NullscaleError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    OSError,
    ImportError,
)


class SREngine:
    """Batches the network calls of many requests, one batch a `step`. Not thread-safe.

    Args:
        max_active: requests that may hold latents and pixels at once; the rest wait.
        clock: what deadlines are read on.
        limits: rows that no batch of a phase may exceed; below, they follow the measured costs.
    """

    def __init__(
        self,
        model: Model,
        *,
        max_active: int = 8,
        limits: Mapping[Phase, int] = ROW_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        costs = Costs(limits)
        self.runner = Runner(model, costs)
        self._scheduler = Scheduler(max_active, costs)
        self._waiting: dict[str, tuple[UpscaleRequest, float]] = {}
        self._active: dict[str, tuple[ActiveRequest, float]] = {}

    @property
    def model(self) -> Model:
        """The model that every request shares."""
        return self.runner.model

    def add_request(self, request: UpscaleRequest) -> None:
        """Queue a request; `step` reports on it under its ``request_id``.

        Raises:
            EngineError: a request of that id is here already.
            DeadlineExceeded: it could not be done in time under the present load.
        """
        request_id, now_s = request.request_id, self._clock()
        if request_id in self._waiting or request_id in self._active:
            raise EngineError(f"request {request_id} is here already")
        info = self.model.info
        plan = plan_stages(request.params, canvas_of(request, info), info)
        if request.deadline_s is not None:
            needs_s = self._scheduler.completion_s(plan, priority=request.priority)
            if now_s + needs_s > request.deadline_s:
                raise DeadlineExceeded(f"request {request_id} would take {needs_s:.1f} s")
        self._waiting[request_id] = (request, time.monotonic())
        self._scheduler.add(
            request_id, plan, priority=request.priority, deadline_s=request.deadline_s
        )

    def abort(self, request_id: str) -> list[Event]:
        """Take a request out, wherever it stands; return its last event, none if it was gone."""
        if not self._scheduler.remove(request_id):
            return []
        self._forget(request_id)
        return [RequestFailure(request_id, RequestAborted(f"request {request_id} was aborted"))]

    def has_work(self) -> bool:
        """Say whether another `step` would do anything."""
        return self._scheduler.has_work()

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Run one batch and return what became of the requests in it."""
        events = [*self._drop_overdue(), *self._admit()]
        for task, output in self._run(self._scheduler.next_batch(), events):
            # An earlier tile of the same request may have failed it within this very loop.
            if task.request_id in self._active:
                with self._blame(task.request_id, events):
                    active, arrived_s = self._active[task.request_id]
                    done = active.steps_done
                    active.complete(task.row, output)
                    if self._scheduler.complete(task):
                        self._advance(active, arrived_s, done, events)
        return events

    def upscale(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        params: UpscaleParams | None = None,
        *,
        on_step: Callable[[StepEvent], None] = lambda event: None,
    ) -> UpscaleResult:
        """Upscale one 8-bit sRGB picture and wait for it; by default with the model's parameters.

        Raises:
            InvalidImage: ``image`` is no [h, w, 3] array of uint8.
            EngineError: the model failed on it.
        """
        request = UpscaleRequest(
            request_id=secrets.token_hex(8), image=image, params=params or self.model.defaults
        )
        self.add_request(request)
        try:
            while True:
                for event in self.step():
                    if event.request_id != request.request_id:
                        continue
                    if isinstance(event, UpscaleResult):
                        return event
                    if isinstance(event, RequestFailure):
                        raise event.error
                    on_step(event)
        finally:
            # Only where it was interrupted is there anything left to take out.
            self.abort(request.request_id)

    def _drop_overdue(self) -> list[Event]:
        late = self._scheduler.overdue(self._clock())
        for request_id in late:
            self._scheduler.remove(request_id)
            self._forget(request_id)
        return [
            RequestFailure(i, DeadlineExceeded(f"request {i} missed its deadline")) for i in late
        ]

    def _admit(self) -> list[Event]:
        events: list[Event] = []
        for request_id in self._scheduler.admit():
            request, arrived_s = self._waiting.pop(request_id)
            with self._blame(request_id, events):
                self._active[request_id] = (self._activate(request), arrived_s)
        return events

    def _run(self, batch: list[TileTask], events: list[Event]) -> list[tuple[TileTask, Tensor]]:
        """Run a batch; where that fails, each row alone, so that only a bad one's request does."""
        batch = [task for task in batch if task.request_id in self._active]
        if not batch:
            return []
        rows = [self._active[task.request_id][0].row(task.row) for task in batch]
        if len(batch) == 1:
            with self._blame(batch[0].request_id, events):
                return [(batch[0], self.runner.run(batch[0].kind, rows)[0])]
            return []
        try:
            return list(zip(batch, self.runner.run(batch[0].kind, rows), strict=True))
        except torch.AcceleratorError:
            raise
        except REQUEST_ERRORS as err:
            logger.warning("a batch of %d rows failed (%s): one at a time", len(batch), err)
        return [pair for task in batch for pair in self._run([task], events)]

    @contextmanager
    def _blame(self, request_id: str, events: list[Event]) -> Iterator[None]:
        """Make what goes wrong inside the failure of one request, unless the device is lost."""
        try:
            yield
        except torch.AcceleratorError:
            # The context is gone for every request to come: only a new process helps.
            raise
        except REQUEST_ERRORS as err:
            self._scheduler.remove(request_id)
            self._forget(request_id)
            events.append(_failure(request_id, err))

    def _activate(self, request: UpscaleRequest) -> ActiveRequest:
        params = request.params
        seed = secrets.randbelow(MAX_SEED + 1) if params.seed is None else params.seed
        negative = params.negative_prompt if params.guidance_scale != 1 else ""
        prompts = self._embed(params.prompt), self._embed(negative)
        return ActiveRequest(request, self.model, prompts, seed)

    def _embed(self, prompt: str) -> PromptEmbeddings:
        return self.model.encode_prompt(prompt) if prompt else self.model.empty_prompt

    def _advance(
        self, active: ActiveRequest, arrived_s: float, done: int, events: list[Event]
    ) -> None:
        request_id = active.request.request_id
        if active.steps_done > done:
            spent_s = time.monotonic() - active.started_s
            eta_s = spent_s / active.steps_done * (active.steps - active.steps_done)
            events.append(StepEvent(request_id, active.steps_done, active.steps, eta_s))
        if active.picture is None:
            return
        events.append(active.result(arrived_s))
        self._scheduler.remove(request_id)
        self._forget(request_id)

    def _forget(self, request_id: str) -> None:
        self._waiting.pop(request_id, None)
        entry = self._active.pop(request_id, None)
        if entry is not None:
            entry[0].close()


def _failure(request_id: str, err: Exception) -> RequestFailure:
    if isinstance(err, NullscaleError):
        return RequestFailure(request_id, err)
    logger.error("request %s failed in the model", request_id, exc_info=err)
    error = EngineError("the model failed on this request")
    # Its traceback would keep the failed batch's tensors alive.
    error.__cause__ = err.with_traceback(None)
    return RequestFailure(request_id, error)
