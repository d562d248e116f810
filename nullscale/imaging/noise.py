"""How noisy a picture is: a first guess at σ_y, as a share of the full range."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, JpegImagePlugin

MEDIAN_OF_NORMAL = 0.6745
"""Median of |n| for n of the standard normal distribution."""

ANOTHER_GRID_PX = 4
"""Half of a JPEG block's side."""


def sensor_noise(image: UInt8[np.ndarray, "h w 3"]) -> float:
    """Return the deviation of white noise: median of the finest diagonal Haar details over .6745.

    Fine texture looks like noise to it (Donoho & Johnstone 1994, section 4.2). A picture of less
    than 2 px has none.
    """
    height, width = (side - side % 2 for side in image.shape[:2])
    x = image[:height, :width].astype(np.float64) / 255
    detail = (x[::2, ::2] - x[1::2, ::2] - x[::2, 1::2] + x[1::2, 1::2]) / 2
    return float(np.median(np.abs(detail)) / MEDIAN_OF_NORMAL) if detail.size else 0.0


def jpeg_noise(data: bytes) -> float:
    """Return the root mean square of what JPEG did to a file's picture; 0 for other formats.

    What it did is not known, but what it does is: compressed again by the file's own tables, on a
    grid of blocks that lies across the first, a picture is changed by about as much again.
    """
    with Image.open(io.BytesIO(data)) as opened:
        if not isinstance(opened, JpegImagePlugin.JpegImageFile):
            return 0.0
        tables, picture = list(opened.quantization.values()), opened.convert("RGB")
        subsampling = JpegImagePlugin.get_sampling(opened)
    width, height = picture.size
    if min(width, height) <= ANOTHER_GRID_PX:
        return 0.0
    moved = picture.crop((ANOTHER_GRID_PX, ANOTHER_GRID_PX, width, height))
    again = io.BytesIO()
    moved.save(again, "jpeg", qtables=tables, subsampling=subsampling)
    with Image.open(again) as opened:
        change = np.asarray(opened, np.float64) - np.asarray(moved, np.float64)
    return float(np.sqrt(np.mean(change**2))) / 255


def noise_of(data: bytes, image: UInt8[np.ndarray, "h w 3"]) -> float:
    """Return σ_y of a file and the picture in it: of sensor or JPEG, whichever is more."""
    return min(1.0, max(sensor_noise(image), jpeg_noise(data)))
