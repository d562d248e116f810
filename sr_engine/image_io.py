"""Bytes to 8-bit sRGB samples and back: the only place where a file format is known."""

import io
import math
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageCms, PngImagePlugin

from sr_engine.errors import ImageTooLarge, InvalidImage, UnsupportedImageType
from sr_engine.operators import output_side
from sr_engine.request import Consistency

OutputFormat = Literal["png", "jpeg", "webp"]

# Pillow has some forty decoders, one of which starts Ghostscript. These three may see a stranger's
# bytes.
FORMATS = ("PNG", "JPEG", "WEBP")
# A thin picture costs by its side, not by its pixels, since no canvas is thinner than the model's
# multiple. WebP files themselves end at 16383 px.
MAX_SIDE_PX: dict[OutputFormat, int] = {"png": 32768, "jpeg": 32768, "webp": 16383}
JPEG_QUALITY = 95

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders are known to raise on broken files.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """Most pixels (width × height) that a picture may have, before and after upscaling."""

    max_input_pixels: int = 4096**2
    max_output_pixels: int = 8192**2


def decode_image(
    data: bytes,
    limits: ImageLimits | None = None,
    *,
    scale: float = 1.0,
    output_format: OutputFormat = "png",
) -> UInt8[np.ndarray, "h w 3"]:
    """Decode a PNG, JPEG or WebP file to upright 8-bit sRGB samples.

    Sizes are judged by the file's header, before any pixel is decoded. An ICC profile is applied,
    16 bits are scaled to 8, palettes, grey and CMYK are converted. ``scale`` and ``output_format``
    tell how large the answer would be and what it must fit in.

    Raises:
        UnsupportedImageType: another type of file.
        ImageTooLarge: more pixels, in or out, than ``limits`` or the output format allow.
        InvalidImage: broken, empty, animated, or not opaque.
    """
    _check_type(data)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, limits or ImageLimits(), scale, output_format)
            # A phone's JPEG may carry a depth map as a second frame (MPO); the first is the photo.
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise InvalidImage("the file holds more than one frame")
            if image.format == "PNG":
                image.verify()
        # `verify` leaves nothing to load from, so the file is opened again.
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            return np.array(_to_srgb(_upright(image)))
    except Image.DecompressionBombError as err:
        raise ImageTooLarge("the image has too many pixels") from err
    except _BROKEN as err:
        raise InvalidImage("the file is broken and cannot be decoded") from err


def encode_image(
    image: UInt8[np.ndarray, "h w 3"],
    output_format: OutputFormat = "png",
    quality: int | None = None,
) -> bytes:
    """Encode 8-bit sRGB samples.

    ``quality``, 1 to 100, is read for JPEG (95 when None) and WebP (lossless when None).
    """
    buffer = io.BytesIO()
    picture = Image.fromarray(image)
    match output_format:
        case "png":
            tag = PngImagePlugin.PngInfo()
            tag.add(b"sRGB", b"\x00")
            # Level 1 takes a fifth of the default's time for files about a quarter larger.
            picture.save(buffer, "PNG", compress_level=1, pnginfo=tag)
        case "jpeg":
            # Full-resolution colour: halving it would undo part of the upscaling.
            picture.save(buffer, "JPEG", quality=quality or JPEG_QUALITY, subsampling=0)
        case "webp":
            # The fastest setting: the default takes ten times as long.
            lossless = quality is None
            picture.save(buffer, "WEBP", lossless=lossless, quality=quality or 20, method=0)
    return buffer.getvalue()


def measure_consistency(
    encoded: bytes, image: UInt8[np.ndarray, "h w 3"], *, reachable: bool
) -> Consistency:
    """Scale an encoded answer down with Pillow's own bicubic filter and compare with its input.

    ``reachable`` is passed on: only the engine knows it.
    """
    height, width, _ = image.shape
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as decoded:
        small = decoded.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    error = np.asarray(small).astype(np.int32) - image
    mse = float(np.mean(error.astype(np.float64) ** 2))
    return Consistency(
        exact=mse == 0,
        exact_share=float(np.mean(error == 0)),
        reachable=reachable,
        psnr_db=None if mse == 0 else 10 * math.log10(255**2 / mse),
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


def _upright(image: Image.Image) -> Image.Image:
    """Turn the picture as its EXIF orientation says; broken EXIF data says nothing."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except (*_BROKEN, TypeError, KeyError):
        return image
    # EXIF holds whatever its writer liked: text and fractions are no keys of the table.
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert any mode that the three decoders produce to RGB, and any profile to sRGB."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        # Pillow's own conversion clips at 255 instead of scaling.
        if "transparency" in image.info:
            raise InvalidImage("transparency is not supported")
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema()[0] != 255:
            raise InvalidImage("transparency is not supported")
        image = rgba.convert("RGB")
    elif image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    rgb = image.convert("RGB")
    return rgb if profile is None else _apply_profile(image, rgb, profile)


def _to_8_bits(samples: Shaped[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Scale 16-bit samples, 0 to 65535, to the nearest of 256 levels."""
    return ((samples.astype(np.uint32) + 128) // 257).clip(0, 255).astype(np.uint8)


def _apply_profile(image: Image.Image, plain: Image.Image, profile: bytes) -> Image.Image:
    """Convert to sRGB; return ``plain``, the picture without it, where the profile is no use."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, *_BROKEN):
        return plain
    if converted is None:
        return plain
    # sRGB by another vendor moves samples by a level; such a photo must come back as it was sent.
    moved = np.abs(np.asarray(converted).astype(np.int16) - np.asarray(plain).astype(np.int16))
    return converted if moved.max() > 1 else plain
