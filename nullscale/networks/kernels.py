"""The autoencoder's passes over memory on CUDA, in Triton: norm with SiLU, sums, softmax.

PyTorch's GroupNorm copies activations that are channels-last, and its convolutions add their biases
in a pass of their own. Here every pass reads and writes what it must, computes in float32, and
rounds once. Nothing depends on the sides of a picture: one build serves all.

Activations are [b, c, h, w], channels-last; channels and groups are powers of two.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

# Without types in PyTorch.
_device_of: Any = torch.cuda.device_of

_TILE = 4096
"""Elements that a program holds at once."""
_MOST_PARTS = 512
"""Programs that share the moments of one picture; enough for any device, few enough to add up."""


@triton.jit
@no_type_check
def _moments(
    x,
    bias,
    found,
    pixels,
    per_part,
    HAS_BIAS: tl.constexpr,
    GROUPS: tl.constexpr,
    EACH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Mean and sum of squared deviations of each group, in one part of a picture's pixels."""
    part, row = tl.program_id(0), tl.program_id(1)
    groups = tl.arange(0, GROUPS)
    channel = groups[None, :, None] * EACH + tl.arange(0, EACH)[None, None, :]
    begin = part * per_part
    end = tl.minimum(begin + per_part, pixels)
    base = x + row.to(tl.int64) * pixels * (GROUPS * EACH)
    mean = tl.zeros([GROUPS], tl.float32)
    squares = tl.zeros([GROUPS], tl.float32)
    count = 0.0
    at = begin
    while at < end:
        pixel = at + tl.arange(0, BLOCK)[:, None, None]
        inside = pixel < end
        value = tl.load(base + pixel.to(tl.int64) * (GROUPS * EACH) + channel, inside, 0.0)
        value = value.to(tl.float32)
        if HAS_BIAS:
            value += tl.load(bias + channel).to(tl.float32)
        value = tl.where(inside, value, 0.0)
        here = (tl.minimum(end - at, BLOCK) * EACH).to(tl.float32)
        mean_here = tl.sum(tl.sum(value, 2), 0) / here
        off = tl.where(inside, value - mean_here[None, :, None], 0.0)
        # Chan, Golub & LeVeque 1979: moments of a union.
        apart = mean_here - mean
        total = count + here
        squares += tl.sum(tl.sum(off * off, 2), 0) + apart * apart * (count * here / total)
        mean += apart * (here / total)
        count = total
        at += BLOCK
    place = found + (row * tl.num_programs(0) + part) * 2 * GROUPS + groups
    tl.store(place, mean)
    tl.store(place + GROUPS, squares)


@triton.jit
@no_type_check
def _factors(
    found,
    weight,
    offset,
    bias,
    factors,
    pixels,
    per_part,
    parts,
    eps,
    HAS_BIAS: tl.constexpr,
    GROUPS: tl.constexpr,
    EACH: tl.constexpr,
    PARTS: tl.constexpr,
):
    """What each channel is multiplied by, and what is added to it, to be normed."""
    row = tl.program_id(0)
    part, groups = tl.arange(0, PARTS)[:, None], tl.arange(0, GROUPS)
    inside = part < parts
    place = found + (row * parts + part) * 2 * GROUPS + groups[None, :]
    means = tl.load(place, inside, 0.0)
    squares = tl.load(place + GROUPS, inside, 0.0)
    counts = tl.minimum(pixels - part * per_part, per_part) * EACH
    counts = tl.where(inside, counts, 0).to(tl.float32)
    total = tl.sum(counts, 0)
    mean = tl.sum(counts * means, 0) / total
    apart = means - mean[None, :]
    variance = tl.sum(squares + counts * apart * apart, 0) / total
    channel = groups[:, None] * EACH + tl.arange(0, EACH)[None, :]
    scale = tl.load(weight + channel).to(tl.float32) / tl.sqrt(variance + eps)[:, None]
    middle = tl.broadcast_to(mean[:, None], [GROUPS, EACH])
    if HAS_BIAS:
        middle -= tl.load(bias + channel).to(tl.float32)
    place = factors + row * 2 * GROUPS * EACH + channel
    tl.store(place, scale)
    tl.store(place + GROUPS * EACH, tl.load(offset + channel).to(tl.float32) - middle * scale)


@triton.jit
@no_type_check
def _apply(
    x, factors, out, pixels, SILU: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(1)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    channel = tl.arange(0, CHANNELS)[None, :]
    inside = pixel < pixels
    at = (row.to(tl.int64) * pixels + pixel) * CHANNELS + channel
    place = factors + row * 2 * CHANNELS + channel
    value = tl.load(x + at, inside, 0.0).to(tl.float32)
    value = value * tl.load(place) + tl.load(place + CHANNELS)
    if SILU:
        value *= tl.sigmoid(value)
    tl.store(out + at, value.to(out.dtype.element_ty), inside)


@triton.jit
@no_type_check
def _add(x, y, bias, pixels, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[:, None]
    channel = tl.arange(0, CHANNELS)[None, :]
    inside = pixel < pixels
    at = pixel.to(tl.int64) * CHANNELS + channel
    value = tl.load(x + at, inside, 0.0).to(tl.float32) + tl.load(bias + channel).to(tl.float32)
    value += tl.load(y + at, inside, 0.0).to(tl.float32)
    tl.store(x + at, value.to(x.dtype.element_ty), inside)


@triton.jit
@no_type_check
def _softmax(x, out, scale, width, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    at = tl.program_id(0).to(tl.int64) * width + column
    value = tl.load(x + at, column < width, -float("inf"))
    value = tl.exp(scale * (value - tl.max(value, 0)))
    value /= tl.sum(value, 0)
    tl.store(out + at, value.to(out.dtype.element_ty), column < width)


def fits(norm: torch.nn.GroupNorm) -> bool:
    """Whether the kernels can compute a norm."""
    sizes = norm.num_groups, norm.num_channels
    return norm.affine and max(sizes) <= _TILE and all(n & (n - 1) == 0 for n in sizes)


def _there(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Launch on the device of the first argument: Triton takes the current one, cuda:0 or not."""

    @wraps(call)
    def launched(x: Tensor, *given: Any, **named: Any) -> Tensor:
        with _device_of(x):
            return call(x, *given, **named)

    return launched


@_there
def norm(x: Tensor, norm: torch.nn.GroupNorm, bias: Tensor | None, *, silu: bool) -> Tensor:
    """Return GroupNorm of x + bias [c], and SiLU of that."""
    x = x.contiguous(memory_format=torch.channels_last)
    rows, channels, pixels = len(x), x.shape[1], x.shape[2] * x.shape[3]
    block = max(1, _TILE // channels)
    per_part = block * triton.cdiv(pixels, block * min(_MOST_PARTS, triton.cdiv(pixels, block)))
    parts = triton.cdiv(pixels, per_part)
    shape = {"GROUPS": norm.num_groups, "EACH": channels // norm.num_groups}
    moments = x.new_empty(rows, parts, 2, norm.num_groups, dtype=torch.float32)
    factors = x.new_empty(rows, 2, channels, dtype=torch.float32)
    has_bias = bias is not None
    _moments[parts, rows](x, bias, moments, pixels, per_part, has_bias, **shape, BLOCK=block)
    _factors[(rows,)](
        moments,
        norm.weight,
        norm.bias,
        bias,
        factors,
        pixels,
        per_part,
        parts,
        norm.eps,
        has_bias,
        **shape,
        PARTS=triton.next_power_of_2(parts),
    )
    out = torch.empty_like(x)
    _apply[triton.cdiv(pixels, block), rows](
        x, factors, out, pixels, SILU=silu, CHANNELS=channels, BLOCK=block
    )
    return out


@_there
def add_(x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """Add y, and bias [c], to x, which is changed and returned."""
    assert x.is_contiguous(memory_format=torch.channels_last)
    y = y.contiguous(memory_format=torch.channels_last)
    channels, pixels = x.shape[1], x.numel() // x.shape[1]
    block = max(1, _TILE // channels)
    _add[(triton.cdiv(pixels, block),)](x, y, bias, pixels, CHANNELS=channels, BLOCK=block)
    return x


@_there
def softmax(x: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """Return the softmax of scale · x, float32 [..., n], over n, at most 16384, in `dtype`."""
    assert x.is_contiguous()
    out = torch.empty_like(x, dtype=dtype)
    width = x.shape[-1]
    block = triton.next_power_of_2(width)
    _softmax[(x.numel() // width,)](
        x, out, scale, width, BLOCK=block, num_warps=max(1, block // 1024)
    )
    return out
