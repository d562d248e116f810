"""Transparent pictures: alpha enlarged, and colour fitted under it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8

from sr_engine.image_io import SourceImage
from sr_engine.operators import BicubicDownscale
from sr_engine.rounding import round_consistently


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


def add_alpha(image: UInt8[np.ndarray, "H W 3"], source: SourceImage, scale: float) -> Layers:
    """Enlarge the alpha of ``source`` and fit ``image``, its samples enlarged, under it.

    Both were found apart, and colour times alpha is never above alpha: where it were, dividing
    would clip it, and the downscale of the file would not be the input.
    """
    if source.alpha is None:
        return Layers(image=image, alpha=None, reachable=True)
    alpha, reachable = _enlarge(source.alpha, scale)
    if bool((image > alpha[..., None]).any()):
        operator = BicubicDownscale(source.alpha.shape, scale)
        x, y = (torch.from_numpy(a.transpose(2, 0, 1).copy()) for a in (image, source.samples))
        fitted = round_consistently(x / 255, y, operator, ceiling=torch.from_numpy(alpha))
        image = fitted.image.permute(1, 2, 0).contiguous().numpy()
        reachable = reachable and fitted.reachable
    return Layers(image=image, alpha=alpha, reachable=reachable)


def upscale_alpha(alpha: UInt8[np.ndarray, "h w"], scale: float) -> UInt8[np.ndarray, "H W"]:
    """Enlarge alpha by the picture's own operator: `A†`, range and exact rounding, no network.

    Pillow's bicubic downscale gives ``alpha`` back wherever a plane in range can.
    """
    return _enlarge(alpha, scale)[0]


def _enlarge(
    alpha: UInt8[np.ndarray, "h w"], scale: float
) -> tuple[UInt8[np.ndarray, "H W"], bool]:
    operator = BicubicDownscale(alpha.shape, scale)
    if alpha.min() == alpha.max():
        return np.full(operator.image_size, alpha.min(), np.uint8), True
    y = torch.from_numpy(alpha.copy())[None]
    rounded = round_consistently(operator.pinv(y / 255), y, operator)
    return rounded.image[0].numpy().copy(), rounded.reachable
