"""Colour times alpha, and back.

What is upscaled is colour multiplied by alpha, since nothing invisible may bleed into what is seen;
it is also what Pillow scales down when it is given RGBA.
"""

import numpy as np
from jaxtyping import UInt8


def premultiply(
    colour: UInt8[np.ndarray, "h w 3"], alpha: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Multiply by alpha and round to the nearest level, as Pillow's `RGBA → RGBa` does."""
    result = np.empty_like(colour)
    # Row by row: whole pictures of larger numbers are large.
    for row, c, a in zip(result, colour, alpha, strict=True):
        row[:] = (c.astype(np.uint32) * a[:, None] + 127) // 255
    return result


def unpremultiply(
    colour: UInt8[np.ndarray, "h w 3"], alpha: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Divide by alpha and round to the nearest level; where nothing is seen, the colour is black.

    Wherever a sample is not above its alpha, multiplying gives it back. Pillow itself rounds down,
    which does not.
    """
    result = np.empty_like(colour)
    for row, c, a in zip(result, colour, alpha, strict=True):
        over = a[:, None].astype(np.uint32)
        straight = (255 * c.astype(np.uint32) + over // 2) // np.maximum(over, 1)
        row[:] = np.where(over == 0, 0, np.minimum(straight, 255))
    return result
