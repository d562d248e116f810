"""Transparent pictures: alpha enlarged, and colour fitted under it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nullscale.imaging.image_io import SourceImage
from nullscale.maths.operators import BicubicDownscale
from nullscale.maths.rounding import RoundedImage, round_consistently

_PATIENCE = 12  # rounds; a matte whose edge is two pixels wide is within three levels by then
_PIXEL_ROUNDS = 2**29  # a plane's: some ten seconds of one core; above 16 megapixels it shows
_LEAST_ROUNDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """An enlarged picture, ready to be encoded.

    Attributes:
        image: 8-bit samples [H, W, 3], multiplied by alpha where there is one.
        alpha: [H, W]; None where every pixel is opaque.
        reachable: False where no alpha, or no picture below it, was found that gives the input
            back.
    """

    image: UInt8[np.ndarray, "H W 3"]
    alpha: UInt8[np.ndarray, "H W"] | None
    reachable: bool


def add_alpha(
    image: UInt8[np.ndarray, "H W 3"], source: SourceImage, scale: float, *, pin: bool
) -> Layers:
    """Enlarge the alpha of ``source`` and fit ``image``, its samples enlarged, under it.

    Both were found apart, and colour times alpha is never above alpha: where it were, dividing
    would clip it, and the downscale of the file would not be the input.

    Args:
        pin: the picture gives its input back, and is to do so still.
    """
    if source.alpha is None:
        return Layers(image=image, alpha=None, reachable=True)
    alpha, reachable = upscale_alpha(source.alpha, scale)
    if not pin:
        image = np.minimum(image, alpha[..., None])
    elif bool((image > alpha[..., None]).any()):
        operator = BicubicDownscale(source.alpha.shape, scale)
        x, y = (torch.from_numpy(a.transpose(2, 0, 1).copy()) for a in (image, source.samples))
        fitted = _rounded(x / 255, y, operator, torch.from_numpy(alpha))
        image = fitted.image.permute(1, 2, 0).contiguous().numpy()
        reachable = reachable and fitted.consistency.reachable
    return Layers(image=image, alpha=alpha, reachable=reachable)


def upscale_alpha(
    alpha: UInt8[np.ndarray, "h w"], scale: float
) -> tuple[UInt8[np.ndarray, "H W"], bool]:
    """Enlarge alpha by the picture's own operator: `A†`, range and exact rounding, no network.

    Pillow's bicubic downscale gives ``alpha`` back wherever a plane in range can; the second result
    is False where none was found.
    """
    operator = BicubicDownscale(alpha.shape, scale)
    if alpha.min() == alpha.max():
        return np.full(operator.image_size, alpha.min(), np.uint8), True
    y = torch.from_numpy(alpha.copy())[None]
    rounded = _rounded(operator.pinv(y / 255), y, operator, None)
    return rounded.image[0].numpy().copy(), rounded.consistency.reachable


def _rounded(
    x: Float[Tensor, "c H W"],
    y: UInt8[Tensor, "c h w"],
    operator: BicubicDownscale,
    ceiling: UInt8[Tensor, "H W"] | None,
) -> RoundedImage:
    """Round, with no more work than a CPU may have with it."""
    rounds = max(_LEAST_ROUNDS, _PIXEL_ROUNDS // math.prod(operator.image_size))
    return round_consistently(
        x, y, operator, ceiling=ceiling, max_rounds=min(200, rounds), patience=_PATIENCE
    )
