"""Pictures to send."""

import io

import numpy as np
from PIL import Image


def photo(height: int, width: int, seed: int = 0, image_format: str = "PNG") -> bytes:
    """A smooth picture, encoded."""
    coarse = np.random.default_rng(seed).integers(60, 200, (5, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    large = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    large.save(buffer, image_format)
    return buffer.getvalue()
