"""What a file must be answered with, found by opening it with Pillow and by nothing of ours."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_SCANS = 100  # of one picture; an MPO has many pictures, of which the first is taken
# What makes a picture upright that is stored in each of the eight orientations.
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status and code that are right, and for 200 the pictures that are.

    Attributes:
        pictures: RGBa samples [h, w, 4]; one of them must come back. Where a profile is embedded
            there are two, since one that moves no sample by more than a level is passed over.
        tolerance: levels by which samples may differ: 0, or 2 where Pillow itself drops bits.
    """

    status: int
    code: str = ""
    pictures: tuple[np.ndarray, ...] = ()
    tolerance: int = 0


INVALID = Verdict(422, "invalid_image")
TOO_LARGE = Verdict(422, "image_too_many_pixels")
OTHER_TYPE = Verdict(415, "unsupported_media_type")


def judge(data: bytes, max_pixels: int) -> Verdict:
    """Say how ``data`` must be answered at scale 1 and PNG, by a service with this limit."""
    if not data:
        return INVALID
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if not webp and data[:8] != b"\x89PNG\r\n\x1a\n" and data[:3] != b"\xff\xd8\xff":
        return OTHER_TYPE
    try:
        return _decoded(data, max_pixels)
    except Image.DecompressionBombError:
        return TOO_LARGE
    except Exception:
        # Whatever Pillow raises, the file is no picture.
        return INVALID


def _decoded(data: bytes, max_pixels: int) -> Verdict:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if not width or not height:
            return INVALID
        if width * height > max_pixels or max(width, height) > 32768:
            return TOO_LARGE
        if image.format == "JPEG" and data.count(b"\xff\xda") > MAX_SCANS:
            return INVALID
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
            return INVALID
        deep = any("16" in str(tile.args) for tile in image.tile)
        if image.format == "PNG":
            image.verify()
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        image.load()
        profile = image.info.get("icc_profile")
        try:
            turn = TURNS[image.getexif().get(0x0112, 1)]
        except Exception:
            turn = TURNS[1]
        if image.mode == "I;16":
            grey = np.rint(np.asarray(image) / 257).astype(np.uint8)
            stored = Image.fromarray(grey)
        else:
            stored = image
        rgba = stored.convert("RGBA")
        alpha, plain = rgba.getchannel("A"), rgba.convert("RGB")
        candidates = [plain]
        if profile is not None:
            colour = stored.convert("L") if stored.mode in ("1", "L", "LA") else plain
            colour = stored if stored.mode == "CMYK" else colour
            candidates += _through(colour, profile)
        pictures = tuple(turn(_premultiplied(c, alpha)) for c in candidates)
    # Pillow keeps the upper byte of sixteen bits; in a product with alpha that counts twice.
    return Verdict(200, pictures=pictures, tolerance=2 if deep else 0)


def _through(colour: Image.Image, profile: bytes) -> list[Image.Image]:
    try:
        source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, srgb, colour.mode, "RGB")
        return [transform.apply(colour)]
    except Exception:
        return []


def _premultiplied(colour: Image.Image, alpha: Image.Image) -> np.ndarray:
    rgba = colour.copy()
    rgba.putalpha(alpha)
    return np.asarray(rgba.convert("RGBa"))
