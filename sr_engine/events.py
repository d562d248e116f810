"""What the engine reports of its requests."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from nullscale.errors import NullscaleError
from nullscale.maths.consistency import Consistency


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


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleResult:
    """An upscaled picture and how it came about.

    Attributes:
        image: 8-bit sRGB samples [H, W, 3].
        unrounded: the same before range and rounding, [3, H, W], nominally 0 to 1, on the CPU.
        seed: the seed that makes this picture again.
        queue_s: seconds between arrival and the start of its work.
        compute_s: seconds from then to the end.
        work_s: of the engine's time, its share; that of all results is the time it was busy.
    """

    request_id: str
    image: UInt8[np.ndarray, "H W 3"]
    unrounded: Float[Tensor, "3 H W"] = field(repr=False)
    seed: int
    consistency: Consistency
    queue_s: float
    compute_s: float
    work_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RequestFailure:
    """A request ended without a result."""

    request_id: str
    error: NullscaleError


Progress = QueuedEvent | StepEvent
Event = Progress | UpscaleResult | RequestFailure
