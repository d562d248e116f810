"""Pictures to send."""

import io

import numpy as np
from PIL import Image


def photo(height: int, width: int, seed: int = 0) -> bytes:
    """A smooth picture, as PNG."""
    coarse = np.random.default_rng(seed).integers(60, 200, (5, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()
