"""Ground truths, the inputs made of them, and what plain filters make of those."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True)
class Truth:
    """A picture to be found again, 8-bit sRGB [H, W, 3], both sides multiples of the scale."""

    group: str
    """The folder's name, such as that of a test set."""
    name: str
    pixels: np.ndarray

    @property
    def digest(self) -> str:
        """What tells it from every other picture, other crops of the same included."""
        shape = np.array(self.pixels.shape, dtype=np.int64).tobytes()
        return hashlib.sha256(shape + self.pixels.tobytes()).hexdigest()[:16]


LEAST_PX = 32
"""Smaller pictures leave nothing to compare at ×8, and no square that every autoencoder takes."""


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return the files given, and the pictures within folders, in order, but for tiny ones."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        found += [p for p in inside if p.suffix.lower() in SUFFIXES]
    return [path for path in found if min(_size(path)) >= LEAST_PX]


def load_truths(paths: Iterable[Path], scale: int, crop_px: int | None = None) -> list[Truth]:
    """Read pictures, cropped to a multiple of the scale: whole, or a centred square."""
    truths = []
    for path in find_images(paths):
        with Image.open(path) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        truths.append(Truth(path.parent.name, path.stem, crop(pixels, scale, crop_px)))
    return truths


def crop(pixels: np.ndarray, scale: int, crop_px: int | None) -> np.ndarray:
    """Return the upper left or, with a side given, the centre of a picture."""
    sides = [min(crop_px or n, n) // scale * scale for n in pixels.shape[:2]]
    top, left = (
        (n - side) // 2 if crop_px else 0 for n, side in zip(pixels.shape, sides, strict=False)
    )
    return np.ascontiguousarray(pixels[top : top + sides[0], left : left + sides[1]])


def shrink(image: np.ndarray, scale: int) -> np.ndarray:
    """Return the input that the upscaler gets: Pillow's bicubic downscale."""
    return _resize(image, 1 / scale, Image.Resampling.BICUBIC)


def enlarge(
    small: np.ndarray, scale: int, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> np.ndarray:
    """Return what one of Pillow's filters makes of an input."""
    return _resize(small, scale, resample)


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def _resize(image: np.ndarray, by: float, resample: Image.Resampling) -> np.ndarray:
    height, width = (round(n * by) for n in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), resample))
