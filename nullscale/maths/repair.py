"""The last wrong samples of a rounded image, brought back by changing single pixels."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int, UInt8
from torch import Tensor

from nullscale.maths.fitting import bounds
from nullscale.maths.pillow_resize import UNIT, first_pass, fixed_point_taps, second_pass, to_levels

HOPELESS = 2.0
"""Levels: a sample further off than this has no solution in range nearby."""

_REPAIRABLE = 0.05  # share of the samples: with more of them wrong there is no solution to find
_REACH = 3  # samples whose kernels overlap: their centres lie less than 4 samples apart


def repair(
    q: Float[Tensor, "H W"], y: UInt8[Tensor, "h w"], top: Float[Tensor, "..."], rounds: int
) -> tuple[Float[Tensor, "H W"], float, int]:
    """Change single pixels by one level where that brings the last wrong samples back.

    Every pixel under a wrong sample is tried both ways, with Pillow's arithmetic and with all
    samples that it reaches; the best is kept where it leaves less wrong than before. A round
    treats samples that are too far apart to meet. No pixel rises above `top`. Returns the image,
    the squared error of its downscale summed over the samples, and the number of rounds.
    """
    h, w = y.shape
    top = top.expand_as(q)
    low, high = bounds(y.double(), 0.5)
    high = high - 1 / UNIT  # Pillow's values are multiples of this, and halves round up
    settled = torch.zeros_like(y, dtype=torch.bool)
    used = 0
    while True:
        first = first_pass(q.double(), w)
        value = second_pass(first, h)
        excess = _excess(value, low, high)
        open_ = torch.where(settled | (excess > HOPELESS), 0.0, excess)
        wrong_share = float((open_ > 0).double().mean())
        if used == rounds or not 0 < wrong_share < _REPAIRABLE:
            return q, float((to_levels(value) - y).square().sum()), used
        used += 1
        nearby = open_[None]
        for _ in range(2):
            nearby = F.max_pool1d(nearby.mT.flatten(0, 1), 4 * _REACH + 1, 1, 2 * _REACH)[None]
        chosen = torch.nonzero((open_ == nearby[0]) & (open_ > 0))
        q = q.clone()
        for samples in torch.split(chosen, _samples_at_once(q.shape, y.shape)):
            i, j = samples.unbind(1)
            done = _best_moves(q, top, first, value, low, high, i, j)
            settled[i[~done], j[~done]] = True


def _best_moves(
    q: Float[Tensor, "H W"],
    top: Float[Tensor, "H W"],
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
    change = (to_levels(new) - to_levels(old))[..., None, :]
    change = change * row_weights.mT[:, :, None, None, :, None]

    def every(t: Tensor) -> Tensor:
        return t[:, None, None, None]

    after = _excess(every(value[at]) + change, every(low[at]), every(high[at])) * every(inside)
    cost = after.sum((-1, -2))
    pixels = rows[:, :, None], columns[:, None, :]
    moved = q[pixels][..., None] + sign
    cost = cost.masked_fill((moved < 0) | (moved > top[pixels][..., None]), math.inf).flatten(1)
    least, best = cost.min(1)
    done = least < before - 0.5 / UNIT
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
    first, weights = (t.to(i.device) for t in fixed_point_taps(n, N))
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
    """How many samples `_best_moves` takes together: its intermediate results stay in the cache."""
    taps = math.prod(
        fixed_point_taps(n, N)[1].shape[1] for n, N in zip(size, image_size, strict=True)
    )
    return max(1, (1 << 18) // (taps * 2 * (2 * _REACH + 1) ** 2))


def _excess(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return (low - value).clamp_min_(0) + (value - high).clamp_min_(0)
