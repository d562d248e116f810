"""Rounding for operators other than Pillow's, whose own arithmetic nobody promises."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nullscale.maths.consistency import Consistency
from nullscale.maths.operators import LinearOperator
from nullscale.maths.rounding import RoundedImage

_RANGE_ROUNDS = 40


def round_nearby(
    x: Float[Tensor, "c H W"],
    y: Float[Tensor, "d h w"],
    operator: LinearOperator,
    *,
    pin: bool,
) -> RoundedImage:
    """Bring `x` into range, and round each sample to the nearest level.

    A sample of `y` counts as coming back where it does to within half a level; the share is of
    those that are known.

    Args:
        pin: without losing `y`: range and measurement take turns (von Neumann's alternating
            projections).
    """
    x = x.float()
    for _ in range(_RANGE_ROUNDS if pin else 0):
        clipped = x.clamp(0, 1)
        if torch.equal(clipped, x):
            break
        x = clipped + operator.pinv(y - operator.A(clipped))
    image = (255 * x).round().clamp(0, 255).to(torch.uint8)
    # Lost pixels are measured as 0 whatever they are.
    known = operator.A(torch.ones_like(x)) > 0.5
    error = 255 * (operator.A(image / 255) - y)[known]
    wrong = int((~(error.abs() <= 0.5)).count_nonzero())
    psnr_db = 10 * math.log10(255**2 / float(error.square().mean())) if wrong else None
    share = 1 - wrong / error.numel()
    found = Consistency(exact=not wrong, exact_share=share, reachable=True, psnr_db=psnr_db)
    return RoundedImage(image, found, rounds=0)
