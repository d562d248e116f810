"""Rounding to 8 bits so that Pillow's own downscale of the saved image gives the input back.

A real image that agrees with the input does not survive being rounded: Pillow rounds and clips
once more between its two passes. So the image is first fitted to a model of both passes that
clips but does not round, and then corrected against Pillow's exact fixed-point arithmetic until
every sample of the input comes back. All values here are grey levels, 0 to 255.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int, UInt8
from torch import Tensor

from sr_engine.operators import Banded, BicubicDownscale, axis_factors, banded, bicubic_taps

_FIT_ROUNDS = 40  # enough wherever a solution exists; without one, twice as many again
_FIT_TOLERANCE = 0.1  # levels: what rounding moves a sample by is larger
_DEADBAND = 0.45  # levels: a sample further off than this may round to a neighbour …
_TARGET = 0.35  # … and is brought back to this distance
_FEEDBACK_ROUNDS = 12
_HOPELESS = 2.0  # levels: a sample further off than this has no solution in range nearby
_REACH = 3  # samples whose kernels overlap: their centres lie less than 4 samples apart
_UNIT = float(1 << 22)  # Pillow's PRECISION_BITS


@dataclass(frozen=True, slots=True)
class RoundedImage:
    """An 8-bit image and how much of the input Pillow's downscale of it gives back."""

    image: UInt8[Tensor, "c H W"]
    exact: bool
    exact_share: float
    """Share of the input's samples that come back exactly, 0 to 1."""
    reachable: bool
    """False where no image in range was found that downscales to the input."""
    psnr_db: float | None
    """Of the downscaled image against the input; None where it is exact."""
    rounds: int
    """Rounds that the slowest channel took."""


def pillow_downscale(
    image: UInt8[Tensor, "*b H W"], size: tuple[int, int]
) -> UInt8[Tensor, "*b h w"]:
    """Downscale bit for bit as Pillow 13's `Image.resize(…, BICUBIC)` does; `size` is (h, w)."""
    if _rows_first(tuple(image.shape[-2:]), size):
        return pillow_downscale(image.mT, size[::-1]).mT
    levels = _to_levels(_first_pass(image.double(), size[1]))
    return _to_levels(_second_pass(levels, size[0])).to(torch.uint8)


def round_consistently(
    x: Float[Tensor, "c H W"],
    y: UInt8[Tensor, "c h w"],
    operator: BicubicDownscale,
    *,
    max_rounds: int = 200,
) -> RoundedImage:
    """Round `x`, in [0, 1], to the 8-bit image nearby that Pillow downscales to `y`.

    Where none exists the result is close to the image in range that comes nearest to `y`. The
    channels are independent and are worked on one at a time, which bounds the memory.
    """
    if operator.image_size == operator.measurement_size:
        return RoundedImage(y, True, 1.0, True, None, 0)
    planes = [
        _round_plane(255 * plane.float(), target, operator, max_rounds)
        for plane, target in zip(x, y, strict=True)
    ]
    image = torch.stack([plane.image for plane in planes])
    error = pillow_downscale(image, operator.measurement_size).double() - y.double()
    exact_share = float((error == 0).double().mean())
    exact = exact_share == 1.0
    return RoundedImage(
        image=image,
        exact=exact,
        exact_share=exact_share,
        reachable=all(plane.reachable for plane in planes),
        psnr_db=None if exact else 10 * math.log10(255**2 / float(error.square().mean())),
        rounds=max(plane.rounds for plane in planes),
    )


@dataclass(frozen=True, slots=True)
class _Plane:
    image: UInt8[Tensor, "H W"]
    reachable: bool
    rounds: int


def _round_plane(
    x: Float[Tensor, "H W"], y: UInt8[Tensor, "h w"], operator: BicubicDownscale, max_rounds: int
) -> _Plane:
    if _rows_first(operator.image_size, operator.measurement_size):
        turned = BicubicDownscale(operator.measurement_size[::-1], operator.scale)
        plane = _round_plane(x.mT, y.mT, turned, max_rounds)
        return _Plane(plane.image.mT, plane.reachable, plane.rounds)
    x, worst, rounds = _fit(x, y, operator, max_rounds)
    best, best_error = x.round(), math.inf
    while rounds < max_rounds:
        x, q, used = _feed_back(x, y, operator, min(_FEEDBACK_ROUNDS, max_rounds - rounds))
        rounds += used
        moved, error, used = _repair(q, y, max_rounds - rounds)
        rounds += used
        if error >= best_error:
            break
        best, best_error = moved, error
        x = x + (moved - q)
    return _Plane(best.to(torch.uint8), best_error == 0 or worst <= 0.5, rounds)


def _fit(
    x: Float[Tensor, "H W"], y: UInt8[Tensor, "h w"], operator: BicubicDownscale, max_rounds: int
) -> tuple[Float[Tensor, "H W"], float, int]:
    """Move `x` into [0, 255] and as near to `y` as it comes; return the worst error and the rounds.

    Accelerated projected gradient (FISTA with restart, O'Donoghue and Candès 2015) on the distance
    of the downscaled image to `y`, which clips between the passes as Pillow does. Minimising the
    plain distance, not that in the metric of `A†`, is what ends at the least-squares bound.
    """
    (h, w), (H, W) = operator.measurement_size, operator.image_size
    rows = axis_factors(h, H, torch.float32, x.device)
    columns = axis_factors(w, W, torch.float32, x.device)
    step = 1 / (rows.gram_norm * columns.gram_norm)
    low, high = _bounds(y.float(), _FIT_TOLERANCE)
    x = z = x.clamp(0, 255)
    momentum, worst, rounds = 1.0, math.inf, 0
    while rounds < min(max_rounds, _FIT_ROUNDS if worst <= 0.5 else 3 * _FIT_ROUNDS):
        rounds += 1
        half = columns.down.along_columns(z)
        seen = rows.down.along_rows(half.clamp(0, 255))
        missing = seen.clamp(low, high) - seen
        worst = float(missing.abs().max()) + _FIT_TOLERANCE
        if worst < 1.5 * _FIT_TOLERANCE:
            return z, worst, rounds
        gradient = rows.up.along_rows(missing)
        # Beyond the range nothing is gained by going further.
        lost = ((half > 255) & (gradient > 0)) | ((half < 0) & (gradient < 0))
        gradient = columns.up.along_columns(gradient.masked_fill_(lost, 0))
        new = (z + step * gradient).clamp_(0, 255)
        if float(((z - new) * (new - x)).sum()) > 0:
            x, z, momentum = new, new, 1.0
        else:
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            z = (new + (momentum - 1) / following * (new - x)).clamp_(0, 255)
            x, momentum = new, following
    return x, worst, rounds


def _feed_back(
    x: Float[Tensor, "H W"], y: UInt8[Tensor, "h w"], operator: BicubicDownscale, rounds: int
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"], int]:
    """Add `A†` of what Pillow's values of the rounded image lack, and do so again.

    Returns the best `x`, its rounded image and the number of rounds.
    """
    h, w = operator.measurement_size
    target = y.double()
    low, high = _bounds(target, 0.0)
    best, best_error = (x, x.round()), math.inf
    used = 0
    while used < rounds:
        used += 1
        q = x.clamp(0, 255).round_()
        value = _second_pass(_first_pass(q.double(), w), h)
        error = float((_to_levels(value) - target).square().sum())
        if error < best_error:
            best, best_error = (x, q), error
        if error == 0:
            break
        missing = (value.clamp(low, high) - value).float()
        size = missing.abs()
        correction = torch.where(
            (size > _DEADBAND) & (size < _HOPELESS), missing - _TARGET * missing.sign(), 0.0
        )
        x = (x + operator.pinv(correction)).clamp_(0, 255)
    return *best, used


def _repair(
    q: Float[Tensor, "H W"], y: UInt8[Tensor, "h w"], rounds: int
) -> tuple[Float[Tensor, "H W"], float, int]:
    """Change single pixels by one level where that brings the last wrong samples back.

    Every pixel under a wrong sample is tried both ways, with Pillow's arithmetic and with all
    samples that it reaches; the best is kept where it leaves less wrong than before. A round
    treats samples that are too far apart to meet. Returns the image, the squared error of its
    downscale summed over the samples, and the number of rounds.
    """
    h, w = y.shape
    low, high = _bounds(y.double(), 0.5)
    high = high - 1 / _UNIT  # Pillow's values are multiples of this, and halves round up
    settled = torch.zeros_like(y, dtype=torch.bool)
    used = 0
    while True:
        first = _first_pass(q.double(), w)
        value = _second_pass(_to_levels(first), h)
        excess = _excess(value, low, high)
        open_ = torch.where(settled | (excess > _HOPELESS), 0.0, excess)
        if used == rounds or not bool(open_.any()):
            return q, float((_to_levels(value) - y).square().sum()), used
        used += 1
        nearby = F.max_pool2d(open_[None, None], 4 * _REACH + 1, 1, 2 * _REACH)[0, 0]
        chosen = torch.nonzero((open_ == nearby) & (open_ > 0))
        q = q.clone()
        for samples in chosen.split(_samples_at_once(q.shape, y.shape)):
            i, j = samples.unbind(1)
            done = _best_moves(q, first, value, low, high, i, j)
            settled[i[~done], j[~done]] = True


def _best_moves(
    q: Float[Tensor, "H W"],
    first: Float64[Tensor, "H w"],
    value: Float64[Tensor, "h w"],
    low: Float64[Tensor, "h w"],
    high: Float64[Tensor, "h w"],
    i: Int[Tensor, " n"],
    j: Int[Tensor, " n"],
) -> Bool[Tensor, " n"]:
    """Make the best single move under each sample (i, j) in `q`; tell where one helped."""
    (H, W), (h, w) = q.shape, value.shape
    rows, row_weights, si, inside_i = _around(h, H, i)
    columns, column_weights, sj, inside_j = _around(w, W, j)
    at = (si[:, :, None], sj[:, None, :])
    inside = (inside_i[:, :, None] & inside_j[:, None, :]).double()
    before = (_excess(value[at], low[at], high[at]) * inside).sum((-1, -2))
    sign = torch.tensor([-1.0, 1.0], dtype=torch.float64, device=q.device)
    # Axes: sample, pixel row, pixel column, sign, samples' rows, samples' columns.
    old = first[rows[:, :, None], sj[:, None, :]][:, :, None, None, :]
    new = old + sign[:, None] * column_weights.mT[:, None, :, None, :]
    change = (_to_levels(new) - _to_levels(old))[..., None, :]
    change = change * row_weights.mT[:, :, None, None, :, None]

    def every(t: Tensor) -> Tensor:
        return t[:, None, None, None]

    after = _excess(every(value[at]) + change, every(low[at]), every(high[at])) * every(inside)
    cost = after.sum((-1, -2))
    moved = q[rows[:, :, None], columns[:, None, :]][..., None] + sign
    cost = cost.masked_fill((moved < 0) | (moved > 255), math.inf).flatten(1)
    least, best = cost.min(1)
    done = least < before - 0.5 / _UNIT
    n = torch.arange(len(i), device=q.device)
    row = rows[n, best // (2 * columns.shape[1])]
    column = columns[n, best // 2 % columns.shape[1]]
    q[row[done], column[done]] += sign[best % 2][done].to(q.dtype)
    return done


def _around(
    n: int, N: int, i: Int[Tensor, " k"]
) -> tuple[
    Int[Tensor, "k taps"],
    Float64[Tensor, "k near taps"],
    Int[Tensor, "k near"],
    Bool[Tensor, "k near"],
]:
    """Along one axis: the pixels under sample `i`, and the weight of each in the samples nearby.

    Then the indices of those samples, and which of them lie inside the image.
    """
    first, weights = (t.to(i.device) for t in _fixed_point_taps(n, N))
    taps = weights.shape[1]
    pixels = first[i][:, None] + torch.arange(taps, device=i.device)
    samples = i[:, None] + torch.arange(-_REACH, _REACH + 1, device=i.device)
    inside = (samples >= 0) & (samples < n)
    samples = samples.clamp(0, n - 1)
    tap = pixels[:, None, :] - first[samples][:, :, None]
    weight = weights[samples[:, :, None], tap.clamp(0, taps - 1)]
    weight = weight.masked_fill((tap < 0) | (tap >= taps), 0)
    return pixels.clamp_max(N - 1), weight, samples, inside


def _samples_at_once(image_size: Sequence[int], size: Sequence[int]) -> int:
    """How many samples `_best_moves` may take together without holding more than 64 MiB."""
    taps = math.prod(
        _fixed_point_taps(n, N)[1].shape[1] for n, N in zip(size, image_size, strict=True)
    )
    return max(1, (1 << 21) // (taps * 2 * (2 * _REACH + 1) ** 2))


def _bounds(y: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """The range about `y`, open below 0 and above 255: Pillow clips what lies beyond."""
    low = torch.where(y == 0, -math.inf, y - tolerance)
    return low, torch.where(y == 255, math.inf, y + tolerance)


def _excess(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return (low - value).clamp_min_(0) + (value - high).clamp_min_(0)


def _rows_first(image_size: Sequence[int], size: Sequence[int]) -> bool:
    """Pillow 13 takes the vertical pass first where the height shrinks by far more pixels."""
    return image_size[0] - size[0] > 2 * (image_size[1] - size[1])


def _first_pass(q: Float64[Tensor, "*b H W"], w: int) -> Float64[Tensor, "*b H w"]:
    """Horizontal pass, before its rounding. Exact: all terms are multiples of 2⁻²²."""
    return _fixed_point(w, q.shape[-1], q.device).along_columns(q)


def _second_pass(levels: Float64[Tensor, "*b H w"], h: int) -> Float64[Tensor, "*b h w"]:
    """Vertical pass, before its rounding."""
    return _fixed_point(h, levels.shape[-2], levels.device).along_rows(levels)


def _to_levels(value: Tensor) -> Tensor:
    """Round halves up and clip, as Pillow's `clip8` does."""
    return (value + 0.5).floor_().clamp_(0, 255)


@lru_cache(maxsize=64)
def _fixed_point(n: int, N: int, device: torch.device) -> Banded:
    return banded(*_fixed_point_taps(n, N), N).to(torch.float64, device)


@lru_cache(maxsize=64)
def _fixed_point_taps(n: int, N: int) -> tuple[Int[Tensor, " n"], Float64[Tensor, "n taps"]]:
    """The taps with Pillow's 22-bit weights, rounded half away from zero."""
    first, weights = bicubic_taps(n, N)
    return first, (weights * _UNIT + 0.5 * weights.sign()).trunc() / _UNIT
