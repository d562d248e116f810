"""Bytes to upright 8-bit sRGB samples: who may be decoded, and what it comes to."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile

from nullscale.errors import (
    ImageTooLarge,
    InvalidImage,
    TransparencyUnsupported,
    UnsupportedImageType,
)
from nullscale.imaging.colour import to_srgb
from nullscale.imaging.image_metadata import kept_exif, kept_xmp, upright_turn
from nullscale.imaging.jpeg_scans import has_more_scans
from nullscale.imaging.pixels import read_pixels
from nullscale.imaging.premultiply import premultiply
from nullscale.maths.operators import output_side

OutputFormat = Literal["png", "jpeg", "webp"]

# Pillow has some forty decoders, one of which starts Ghostscript. These three may see a stranger's
# bytes.
FORMATS = ("PNG", "JPEG", "WEBP")
# A thin picture costs by its side, not by its pixels, since no canvas is thinner than the model's
# multiple. WebP files themselves end at 16383 px.
MAX_SIDE_PX: dict[OutputFormat, int] = {"png": 32768, "jpeg": 32768, "webp": 16383}
# Progressive JPEGs of cameras and editors have about ten, those of CMYK a few more.
MAX_SCANS = 100

# What Pillow's decoders are known to raise on broken files.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """Most pixels (width × height) that a picture may have, before and after upscaling."""

    max_input_pixels: int = 4096**2
    max_output_pixels: int = 8192**2


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """A decoded picture, upright.

    Attributes:
        samples: 8-bit sRGB [h, w, 3], multiplied by alpha where there is one.
        alpha: [h, w]; None where every pixel is opaque.
        exif: what may be written into the answer, its orientation reset; None: the file has none.
        xmp: the same.
        bit_depth: of the file's samples, 8 or 16; those here always have 8.
    """

    samples: UInt8[np.ndarray, "h w 3"]
    alpha: UInt8[np.ndarray, "h w"] | None
    exif: bytes | None
    xmp: bytes | None
    bit_depth: int


def decode_image(
    data: bytes,
    limits: ImageLimits | None = None,
    *,
    scale: float = 1.0,
    output_format: OutputFormat = "png",
) -> SourceImage:
    """Decode a PNG, JPEG or WebP file to upright 8-bit sRGB samples and alpha.

    Sizes are judged by the file's header, before any pixel is decoded. An ICC profile is applied,
    16 bits are scaled to 8, palettes, grey and CMYK are converted. ``scale`` and ``output_format``
    tell how large the answer would be and what it must fit in.

    Raises:
        UnsupportedImageType: another type of file.
        ImageTooLarge: more pixels, in or out, than ``limits`` or the output format allow.
        TransparencyUnsupported: it is not opaque and the output format knows no transparency.
        InvalidImage: broken, empty or animated.
    """
    _check_type(data)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, limits or ImageLimits(), scale, output_format)
            if image.format in ("JPEG", "MPO") and has_more_scans(data, MAX_SCANS):
                raise InvalidImage("the file holds too many scans")
            # A phone's JPEG may carry a depth map as a second frame (MPO); the first is the photo.
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise InvalidImage("the file holds more than one frame")
            if image.format == "PNG":
                image.verify()
        # `verify` leaves nothing to load from, so the file is opened again.
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _read(image, data, output_format)
    except Image.DecompressionBombError as err:
        raise ImageTooLarge("the image has too many pixels") from err
    except _BROKEN as err:
        raise InvalidImage("the file is broken and cannot be decoded") from err


def _read(image: ImageFile.ImageFile, data: bytes, output_format: OutputFormat) -> SourceImage:
    pixels = read_pixels(image, data)
    if pixels.alpha is not None and output_format == "jpeg":
        raise TransparencyUnsupported("the image is not opaque, and JPEG knows no transparency")
    srgb = to_srgb(pixels.colour, image.info.get("icc_profile"))
    alpha = None if pixels.alpha is None else Image.fromarray(pixels.alpha)
    turn = upright_turn(image)
    if turn is not None:
        srgb = srgb.transpose(turn)
        alpha = alpha and alpha.transpose(turn)
    samples = np.array(srgb)
    plane = None if alpha is None else np.array(alpha)
    return SourceImage(
        samples=samples if plane is None else premultiply(samples, plane),
        alpha=plane,
        exif=kept_exif(image),
        xmp=kept_xmp(image),
        bit_depth=pixels.bit_depth,
    )


def _check_type(data: bytes) -> None:
    if not data:
        raise InvalidImage("the file is empty")
    is_webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if not is_webp and not data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        raise UnsupportedImageType("the file is neither PNG, JPEG nor WebP")


def _check_size(
    size: tuple[int, int], limits: ImageLimits, scale: float, output_format: OutputFormat
) -> None:
    width, height = size
    if not width or not height:
        raise InvalidImage("the image has no pixels")
    if width * height > limits.max_input_pixels:
        raise ImageTooLarge(
            f"the image has {width} × {height} pixels; at most {limits.max_input_pixels} are taken"
        )
    wide, high = output_side(width, scale), output_side(height, scale)
    if wide * high > limits.max_output_pixels:
        raise ImageTooLarge(
            f"the result would have {wide} × {high} pixels; at most {limits.max_output_pixels} "
            "are made"
        )
    if max(wide, high) > MAX_SIDE_PX[output_format]:
        raise ImageTooLarge(
            f"the result would have {wide} × {high} pixels; a side of a {output_format} has at "
            f"most {MAX_SIDE_PX[output_format]}"
        )
