"""What comes back of a request."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """How well the result, scaled down by Pillow's bicubic filter, gives the input back.

    Attributes:
        exact: every sample comes back.
        exact_share: share of the input's samples that come back, 0 to 1.
        reachable: False where a picture in range that gives the input back was looked for in vain.
        psnr_db: of the scaled-down result against the input; None when exact.
    """

    exact: bool
    exact_share: float
    reachable: bool
    psnr_db: float | None


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
