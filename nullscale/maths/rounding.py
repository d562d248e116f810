"""Rounding to 8 bits so that Pillow's own downscale of the saved image gives the input back.

A real image that agrees with the input does not survive being rounded: Pillow rounds and clips
once more between its two passes. So the image is first fitted to a model of both passes that
clips but does not round, and then corrected against Pillow's exact fixed-point arithmetic until
every sample of the input comes back. All values here are grey levels, 0 to 255.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nullscale.maths.consistency import Consistency
from nullscale.maths.exact_products import exact_products
from nullscale.maths.fitting import bounds, fit, into_range
from nullscale.maths.operators import BicubicDownscale
from nullscale.maths.pillow_resize import (
    first_pass,
    pillow_downscale,
    second_pass,
    to_levels,
    vertical_pass_first,
)
from nullscale.maths.repair import HOPELESS, repair

_FIT_GOALS = (0.4, 0.25, 0.15)  # levels: a nearer one where the rest leaves a sample wrong
_DEADBAND = 0.45  # levels: a sample further off than this may round to a neighbour …
_TARGET = 0.35  # … and is brought back to this distance
_FEEDBACK_ROUNDS = 6
_REPAIR_ROUNDS = 16
_WORTHWHILE = 0.9  # feedback and repair go on while they leave less than this of the error


@dataclass(frozen=True, slots=True)
class RoundedImage:
    """An 8-bit image and how much of the input Pillow's downscale of it gives back."""

    image: UInt8[Tensor, "c H W"]
    consistency: Consistency
    rounds: int
    """Rounds that the slowest channel took."""


def round_consistently(
    x: Float[Tensor, "c H W"],
    y: UInt8[Tensor, "c h w"],
    operator: BicubicDownscale,
    *,
    ceiling: UInt8[Tensor, "H W"] | None = None,
    max_rounds: int = 200,
    patience: int = 200,
) -> RoundedImage:
    """Round `x`, in [0, 1], to the 8-bit image nearby that Pillow downscales to `y`.

    Where none exists the result is close to the image in range that comes nearest to `y`. The
    range ends at 255, or at each pixel's `ceiling`. The channels are independent and are worked on
    one at a time, which bounds the memory. A channel that is still far off after `patience` rounds
    is brought no nearer, since it will not be reached.
    """
    if operator.image_size == operator.measurement_size:
        return _judged(y, y, operator, reachable=True, rounds=0)
    top = torch.tensor(255.0) if ceiling is None else ceiling.float()
    top = top.to(x.device)
    with exact_products(x.device):
        planes = [
            _round_plane(255 * plane.float(), target, operator, top, max_rounds, patience)
            for plane, target in zip(x, y.to(x.device), strict=True)
        ]
    return _judged(
        torch.stack([plane.image for plane in planes]),
        y,
        operator,
        reachable=all(plane.reachable for plane in planes),
        rounds=max(plane.rounds for plane in planes),
    )


def round_plainly(
    x: Float[Tensor, "c H W"], y: UInt8[Tensor, "c h w"], operator: BicubicDownscale
) -> RoundedImage:
    """Round each sample of `x` to the nearest level.

    Nothing that gives `y` back is looked for, so `reachable` says nothing against it.
    """
    image = (255 * x.float()).round().clamp(0, 255).to(torch.uint8)
    return _judged(image, y, operator, reachable=True, rounds=0)


def _judged(
    image: UInt8[Tensor, "c H W"],
    y: UInt8[Tensor, "c h w"],
    operator: BicubicDownscale,
    *,
    reachable: bool,
    rounds: int,
) -> RoundedImage:
    error = pillow_downscale(image, operator.measurement_size).double() - y.to(image.device)
    # Counted: a GPU's mean of ones may be a little less.
    wrong = int(error.count_nonzero())
    psnr_db = 10 * math.log10(255**2 / float(error.square().mean())) if wrong else None
    share = 1 - wrong / error.numel()
    found = Consistency(exact=not wrong, exact_share=share, reachable=reachable, psnr_db=psnr_db)
    return RoundedImage(image, found, rounds)


@dataclass(frozen=True, slots=True)
class _Plane:
    image: UInt8[Tensor, "H W"]
    reachable: bool
    rounds: int


def _round_plane(
    x: Float[Tensor, "H W"],
    y: UInt8[Tensor, "h w"],
    operator: BicubicDownscale,
    top: Float[Tensor, "..."],
    max_rounds: int,
    patience: int,
) -> _Plane:
    if vertical_pass_first(operator.image_size, operator.measurement_size):
        turned = BicubicDownscale(operator.measurement_size[::-1], operator.scale)
        top = top.mT if top.ndim else top
        plane = _round_plane(x.mT, y.mT, turned, top, max_rounds, patience)
        return _Plane(plane.image.mT, plane.reachable, plane.rounds)
    best, best_error, rounds, near = x, math.inf, 0, False
    for goal in _FIT_GOALS:
        x, worst, used = fit(x, y, operator, top, goal, max_rounds - rounds, patience)
        rounds += used
        near, before = near or worst <= 0.5, math.inf
        if best_error == math.inf:
            best = x.round()
        while rounds < max_rounds:
            few = min(_FEEDBACK_ROUNDS, max_rounds - rounds)
            x, q, error, used = _feed_back(x, y, operator, top, few)
            rounds, moved = rounds + used, q
            if error:
                moved, error, used = repair(q, y, top, min(_REPAIR_ROUNDS, max_rounds - rounds))
                rounds += used
            if error < best_error:
                best, best_error = moved, error
            if error == 0 or error >= _WORTHWHILE * before or not near:
                break
            before = error
            x = x + (moved - q)
        if best_error == 0 or not near or rounds >= max_rounds:
            break
    return _Plane(best.to(torch.uint8), best_error == 0 or near, rounds)


def _feed_back(
    x: Float[Tensor, "H W"],
    y: UInt8[Tensor, "h w"],
    operator: BicubicDownscale,
    top: Float[Tensor, "..."],
    rounds: int,
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"], float, int]:
    """Add `A†` of what Pillow's values of the rounded image lack, and do so again.

    Returns the best `x`, its rounded image, the squared error of that one's downscale summed over
    the samples, and the number of rounds.
    """
    h, w = operator.measurement_size
    target = y.double()
    low, high = bounds(target, 0.0)
    best, best_error = (x, x.round()), math.inf
    used = 0
    while used < rounds:
        used += 1
        q = into_range(x.round(), top)
        value = second_pass(first_pass(q.double(), w), h)
        error = float((to_levels(value) - target).square().sum())
        if error < best_error:
            best, best_error = (x, q), error
        if error == 0 or used == rounds:
            break
        missing = (value.clamp(low, high) - value).float()
        size = missing.abs()
        correction = torch.where(
            (size > _DEADBAND) & (size < HOPELESS), missing - _TARGET * missing.sign(), 0.0
        )
        x = into_range(operator.pinv(correction).add_(x), top)
    return *best, best_error, used
