"""An image moved into range and near to its measurement: what rounding begins with."""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nullscale.maths.banded import axis_factors
from nullscale.maths.operators import BicubicDownscale

_ROUNDS = 40  # mostly enough; what is not within half a level then gets twice as many again
_FAR = 6.0  # levels: what is nearer than this after a dozen rounds may come back yet
_SPAN = 8  # rounds in which a fit that leads anywhere brings the distance down …
_STALLED = 0.99  # … to less than this share of it
_TOLERANCE = 0.1  # levels: what rounding moves a sample by is larger


def fit(
    x: Float[Tensor, "H W"],
    y: UInt8[Tensor, "h w"],
    operator: BicubicDownscale,
    top: Float[Tensor, "..."],
    goal: float,
    max_rounds: int,
    patience: int,
) -> tuple[Float[Tensor, "H W"], float, int]:
    """Move `x` into [0, top] and to `goal` of `y`; return it, its worst error and the rounds.

    Accelerated projected gradient (FISTA with restart, O'Donoghue and Candès 2015) on the distance
    of the downscaled image to `y`, which clips between the passes as Pillow does. Minimising the
    plain distance, not that in the metric of `A†`, is what ends at the least-squares bound. What is
    within a level of `y` is not given up: the feedback may reach it yet.
    """
    (h, w), (H, W) = operator.measurement_size, operator.image_size
    rows = axis_factors(h, H, torch.float32, x.device)
    columns = axis_factors(w, W, torch.float32, x.device)
    step = 1 / (rows.gram_norm * columns.gram_norm)
    low, high = bounds(y.float(), _TOLERANCE)
    x = into_range(x.clone(), top)
    z = x.clone()
    momentum, worst, reached, rounds = 1.0, math.inf, math.inf, 0
    while rounds < min(max_rounds, _ROUNDS if worst <= 0.5 else 3 * _ROUNDS):
        rounds += 1
        half = columns.down.along_columns(z)
        held = half.clamp(0, 255)
        seen = rows.down.along_rows(held)
        missing = seen.clamp(low, high).sub_(seen)
        worst = float(missing.abs().max()) + _TOLERANCE
        if worst < goal:
            return z, worst, rounds
        if rounds >= patience and worst > _FAR:
            break
        if rounds % _SPAN == 0:
            before, reached = reached, float(torch.linalg.vector_norm(missing))
            if worst > 1 and reached > _STALLED * before:
                break
        gradient = rows.up.along_rows(missing)
        # Beyond the range nothing is gained by going further.
        outwards = half.sub_(held).mul_(gradient).sign_().clamp_(min=0)
        gradient = columns.up.along_columns(gradient.addcmul_(gradient, outwards, value=-1))
        # In place from here on: at this size the time goes into memory that is new each round.
        new = into_range(torch.add(z, gradient, alpha=step, out=gradient), top)
        change = torch.sub(new, x, out=x)
        if float((z.sub_(new)).flatten().dot(change.flatten())) > 0:
            x, z, momentum = new, new.clone(), 1.0
        else:
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead = (momentum - 1) / following
            z = into_range(torch.add(new, change, alpha=ahead, out=change), top)
            x, momentum = new, following
    return x, worst, rounds


def bounds(y: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """The range about `y`, open below 0 and above 255: Pillow clips what lies beyond."""
    low = torch.where(y == 0, -math.inf, y - tolerance)
    return low, torch.where(y == 255, math.inf, y + tolerance)


def into_range(x: Float[Tensor, "H W"], top: Float[Tensor, "..."]) -> Float[Tensor, "H W"]:
    """Clip `x` in place to what a pixel may hold; a single `top` is 255."""
    x.clamp_(0, 255)
    return torch.minimum(x, top, out=x) if top.ndim else x
