"""What the engine reports of its requests."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from sr_engine.errors import NullscaleError
from sr_engine.result import UpscaleResult


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """A request waits.

    Attributes:
        position: requests that will be taken up before it, by the present order.
        eta_s: expected seconds to the end.
    """

    request_id: str
    position: int
    eta_s: float


@dataclass(frozen=True, slots=True)
class StepEvent:
    """A request finished a denoising step.

    Attributes:
        step: finished steps, from 1 up.
        of: steps in all.
        eta_s: expected seconds to the end.
        preview: the last estimate that was decoded, made small; 8-bit sRGB samples [h, w, 3], or
            None where none was asked for or decoded.
    """

    request_id: str
    step: int
    of: int
    eta_s: float
    preview: UInt8[np.ndarray, "h w 3"] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RequestFailure:
    """A request ended without a result."""

    request_id: str
    error: NullscaleError


Progress = QueuedEvent | StepEvent
Event = Progress | UpscaleResult | RequestFailure
