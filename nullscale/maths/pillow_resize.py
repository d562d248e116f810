"""Pillow's 8-bit bicubic downscale, bit for bit, on tensors of any device.

`Resample.c` works in integers: weights of 22 bits after the point, and rounding and clipping to
8 bits after each of its two passes. Every such number is a multiple of 2⁻²² below 2¹⁰, hence exact
in float64, so the passes are ordinary products of float64 matrices.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float64, Int, UInt8
from torch import Tensor

from nullscale.maths.banded import Banded, banded, bicubic_taps

UNIT = float(1 << 22)
"""Pillow's weights are multiples of one over this (its PRECISION_BITS)."""


def pillow_downscale(
    image: UInt8[Tensor, "*b H W"], size: tuple[int, int]
) -> UInt8[Tensor, "*b h w"]:
    """Downscale bit for bit as Pillow 13's `Image.resize(…, BICUBIC)` does; `size` is (h, w)."""
    if vertical_pass_first(tuple(image.shape[-2:]), size):
        return pillow_downscale(image.mT, size[::-1]).mT
    first = first_pass(image.double(), size[1])
    return to_levels(second_pass(first, size[0])).to(torch.uint8)


def vertical_pass_first(image_size: Sequence[int], size: Sequence[int]) -> bool:
    """Pillow 13 takes the vertical pass first where the height shrinks by far more pixels.

    Earlier versions always begin with the horizontal one, and so differ by a level here and there
    on images that are tall enough.
    """
    return image_size[0] - size[0] > 2 * (image_size[1] - size[1])


def first_pass(q: Float64[Tensor, "*b H W"], w: int) -> Float64[Tensor, "*b H w"]:
    """Horizontal pass, before its rounding. Exact: all terms are multiples of 2⁻²²."""
    return _fixed_point(w, q.shape[-1], q.device).along_columns(q)


def second_pass(first: Float64[Tensor, "*b H w"], h: int) -> Float64[Tensor, "*b h w"]:
    """Vertical pass of the rounded and clipped first, before its own rounding."""
    return _fixed_point(h, first.shape[-2], first.device).along_rows(to_levels(first))


def to_levels(value: Tensor) -> Tensor:
    """Round halves up and clip, as Pillow's `clip8` does."""
    return (value + 0.5).floor_().clamp_(0, 255)


@lru_cache(maxsize=64)
def _fixed_point(n: int, N: int, device: torch.device) -> Banded:
    return banded(*fixed_point_taps(n, N), N).to(torch.float64, device)


@lru_cache(maxsize=64)
def fixed_point_taps(n: int, N: int) -> tuple[Int[Tensor, " n"], Float64[Tensor, "n taps"]]:
    """The taps with Pillow's 22-bit weights, rounded half away from zero."""
    first, weights = bicubic_taps(n, N)
    return first, (weights * UNIT + 0.5 * weights.sign()).trunc() / UNIT
