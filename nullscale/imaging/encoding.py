"""Samples to files, and how well a file gives its input back."""

import io
import math
from functools import cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, PngImagePlugin

from nullscale.imaging.image_io import FORMATS, OutputFormat, SourceImage
from nullscale.imaging.premultiply import unpremultiply
from nullscale.maths.consistency import Consistency

JPEG_QUALITY = 95

_XMP_KEYWORD = "XML:com.adobe.xmp"
_MAX_JPEG_XMP_BYTES = 65504  # a segment less its own length and the name of what it holds
_CREATED = slice(24, 36)  # an ICC profile's date, in its header


def encode_image(
    image: UInt8[np.ndarray, "H W 3"],
    output_format: OutputFormat = "png",
    quality: int | None = None,
    *,
    alpha: UInt8[np.ndarray, "H W"] | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
) -> bytes:
    """Encode 8-bit sRGB samples, which are multiplied by ``alpha`` where there is one.

    ``quality``, 1 to 100, is read for JPEG (95 when None) and WebP (lossless when None). JPEG holds
    no alpha, and no XMP packet of 64 KiB or more: that is left out.
    """
    assert alpha is None or output_format != "jpeg", "refused when it was decoded"
    buffer = io.BytesIO()
    if alpha is None:
        picture = Image.fromarray(image)
    else:
        picture = Image.fromarray(np.dstack([unpremultiply(image, alpha), alpha]))
    kept = {"exif": exif} if exif else {}
    match output_format:
        case "png":
            info = PngImagePlugin.PngInfo()
            info.add(b"sRGB", b"\x00")
            if xmp:
                info.add_itxt(_XMP_KEYWORD, xmp.decode(errors="replace"))
            # Level 1 takes a fifth of the default's time for files about a quarter larger.
            picture.save(buffer, "PNG", compress_level=1, pnginfo=info, **kept)
        case "jpeg":
            if xmp and len(xmp) <= _MAX_JPEG_XMP_BYTES:
                kept["xmp"] = xmp
            # Full-resolution colour: halving it would undo part of the upscaling.
            picture.save(
                buffer,
                "JPEG",
                quality=quality or JPEG_QUALITY,
                subsampling=0,
                icc_profile=_srgb_profile(),
                **kept,
            )
        case "webp":
            if xmp:
                kept["xmp"] = xmp
            # The fastest setting: the default takes ten times as long.
            picture.save(
                buffer,
                "WEBP",
                lossless=quality is None,
                quality=quality or 20,
                method=0,
                icc_profile=_srgb_profile(),
                **kept,
            )
    return buffer.getvalue()


def measure_consistency(encoded: bytes, source: SourceImage, *, reachable: bool) -> Consistency:
    """Scale an encoded answer down with Pillow's own bicubic filter and compare with its input.

    Transparent pictures are compared as Pillow scales them: colour times alpha, and alpha.
    ``reachable`` is passed on: only the engine knows it.
    """
    height, width, _ = source.samples.shape
    expected = source.samples
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as decoded:
        if source.alpha is None:
            large = decoded.convert("RGB")
        else:
            large = decoded.convert("RGBA").convert("RGBa")
            expected = np.dstack([source.samples, source.alpha])
        small = large.resize((width, height), Image.Resampling.BICUBIC)
    squares, wrong = 0, 0
    # Row by row: whole pictures of larger numbers are large.
    for row, right in zip(np.asarray(small), expected, strict=True):
        error = row.astype(np.int64) - right
        squares += int(np.square(error).sum())
        wrong += int(np.count_nonzero(error))
    mse = squares / expected.size
    return Consistency(
        exact=mse == 0,
        exact_share=1 - wrong / expected.size,
        reachable=reachable,
        psnr_db=None if mse == 0 else 10 * math.log10(255**2 / mse),
    )


@cache
def _srgb_profile() -> bytes:
    """An sRGB profile; without the time of its making, so that equal pictures are equal files."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[_CREATED] = bytes(12)
    return bytes(profile)
