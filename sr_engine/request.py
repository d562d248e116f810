"""What a caller asks of the engine."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from nullscale.errors import InvalidImage, InvalidParameter
from nullscale.maths.degradations import Degradation
from nullscale.maths.params import UpscaleParams, check_whole
from nullscale.maths.problem import Downscale, check_downscale
from nullscale.scheduling.work import UNLIMITED, TileLimits

MAX_PRIORITY = 16
MAX_PREVIEW_PX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleRequest:
    """One picture to upscale: 8-bit sRGB samples [h, w, 3], at least 1 px a side.

    Attributes:
        downscale: how it became small: by Pillow's bicubic filter, or each pixel is the mean of a
            square of them, as sensors bin them; that for whole scales only.
        degradation: what has happened to the picture besides being small.
        priority: each step up halves the work that counts against it in the order of service,
            −16 to 16.
        deadline_s: on the engine's clock, `time.monotonic`; once passed, the request is dropped.
        preview_px: longer side of the previews that its events bring, 0 to 1024; 0 brings none.
        tiles: how large tiles may be; the engine lowers it where one alone does not fit in memory.

    Raises:
        InvalidImage: the array is no such picture.
        InvalidParameter: the priority, the deadline or the previews' side is no such number, or
            the scale is none for this downscale.
    """

    request_id: str
    image: UInt8[np.ndarray, "h w 3"]
    params: UpscaleParams
    downscale: Downscale = "bicubic"
    degradation: Degradation | None = None
    priority: int = 0
    deadline_s: float | None = None
    preview_px: int = 0
    tiles: TileLimits = UNLIMITED

    def __post_init__(self) -> None:
        shape = self.image.shape
        if self.image.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise InvalidImage(f"expected 8-bit samples [h, w, 3], got {self.image.dtype} {shape}")
        check_downscale(self.downscale, self.params.scale)
        check_whole("priority", self.priority, -MAX_PRIORITY, MAX_PRIORITY)
        if self.deadline_s is not None and not math.isfinite(self.deadline_s):
            raise InvalidParameter("deadline_s", "must be a finite number")
        check_whole("preview_px", self.preview_px, 0, MAX_PREVIEW_PX)
