"""How well a picture gives its input back."""

from dataclasses import dataclass


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
