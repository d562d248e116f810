"""A request from its arrival to its end."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from nullscale.errors import InvalidResult
from nullscale.scheduling.work import Kind, Plan, Variant
from sr_engine.events import StepEvent, UpscaleResult
from sr_engine.model import Model, ModelInfo
from sr_engine.plan import plan_stages, smaller_tiles
from sr_engine.request import UpscaleRequest
from sr_engine.runner import Row


@runtime_checkable
class Active(Protocol):
    """A request that holds memory; `sr_engine.active.ActiveRequest` is the real one."""

    seed: int
    started_s: float
    steps: int
    steps_done: int
    picture: Tensor | None

    def row(self, number: int) -> Row:
        """Return the input of one row of the present stage."""

    def complete(self, number: int, result: Tensor) -> None:
        """Take one row's result."""

    def preview(self) -> UInt8[np.ndarray, "h w 3"] | None:
        """Return the last decoded estimate, made small."""

    def result(self, arrived_s: float) -> UpscaleResult:
        """Return what the finished picture is to the caller."""

    def close(self) -> None:
        """Drop every tensor."""


Begin = Callable[[UpscaleRequest, Model], Active]
"""Makes a request active."""


@dataclass(slots=True)
class Job:
    """A request, what it will ask of which networks, and its state once it holds memory.

    Attributes:
        estimated_s: seconds from its arrival to its end, as foreseen then.
    """

    request: UpscaleRequest
    plan: Plan
    arrived_s: float
    estimated_s: float
    variant: Variant = Variant.BASE
    active: Active | None = None

    def step_event(self) -> StepEvent:
        """Return how far the active request has come."""
        active = self.active
        assert active is not None
        spent_s = time.monotonic() - active.started_s
        eta_s = spent_s / active.steps_done * (active.steps - active.steps_done)
        step = active.steps_done, active.steps, eta_s
        return StepEvent(self.request.request_id, *step, active.preview())

    def after(self, err: Exception, kind: Kind | None, info: ModelInfo) -> "Job | None":
        """Return the same job from the start, done another way, where that may help.

        What is no picture is made once more by float32 networks; what does not fit in memory, in
        smaller tiles, as long as they may become smaller.

        Args:
            kind: of the row that failed alone; None where no network did.
        """
        if isinstance(err, InvalidResult):
            if self.variant is Variant.FLOAT32 or info.dtype == "float32":
                return None
            return self._again(self.request, Variant.FLOAT32, info)
        if isinstance(err, torch.OutOfMemoryError) and kind is not None:
            tiles = smaller_tiles(kind, info, self.request.tiles)
            if tiles is not None:
                return self._again(replace(self.request, tiles=tiles), self.variant, info)
        return None

    def _again(self, request: UpscaleRequest, variant: Variant, info: ModelInfo) -> "Job":
        """Return a job for the picture that this one was to be: it keeps the seed it had."""
        if self.active is not None:
            request = replace(request, params=replace(request.params, seed=self.active.seed))
        plan = plan_stages(request, info, variant)
        return Job(request, plan, self.arrived_s, self.estimated_s, variant)
