"""An opened file's samples: grey, RGB or CMYK at 8 bits, and alpha, whatever it holds."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16
from PIL import Image, ImageFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """A picture at 8 bits.

    Attributes:
        colour: of mode L, RGB or CMYK, not multiplied by alpha.
        alpha: None where every pixel is opaque.
        bit_depth: of the file's samples: 16, or 8 for all that have fewer.
    """

    colour: Image.Image
    alpha: UInt8[np.ndarray, "h w"] | None
    bit_depth: int


def read_pixels(image: ImageFile.ImageFile, data: bytes) -> Pixels:
    """Load ``image``, opened from ``data`` and not yet loaded."""
    rawmode = str(image.tile[0].args) if image.format == "PNG" else ""
    image.load()
    if "16" in rawmode:
        return _from_16_bits(_read_16_bits(image, data, rawmode), image)
    if "transparency" in image.info and image.mode in ("1", "L", "RGB"):
        colour = image.convert("L") if image.mode == "1" else image
        # PNG counts its key in the file's own levels; Pillow stretches those of 2 and 4 bits.
        step = {"L;2": 85, "L;4": 17}.get(rawmode, 1)
        key = [step * level & 255 for level in _levels(image.info["transparency"])]
        return _with_alpha(colour, _keyed_out(np.atleast_3d(np.asarray(colour)), key), 8)
    if image.mode in ("LA", "RGBA") or "transparency" in image.info:
        wide = image.convert("LA" if image.mode == "LA" else "RGBA")
        colour = wide.convert("L" if image.mode == "LA" else "RGB")
        return _with_alpha(colour, np.asarray(wide.getchannel("A")), 8)
    mode = {"1": "L", "L": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")
    return Pixels(colour=image.convert(mode), alpha=None, bit_depth=8)


def _from_16_bits(samples: UInt16[np.ndarray, "h w c"], image: Image.Image) -> Pixels:
    """Scale 16-bit samples, 0 to 65535, to the nearest of 256 levels."""
    levels = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    colours = samples.shape[2] - (samples.shape[2] in (2, 4))
    colour = Image.fromarray(levels[..., 0] if colours == 1 else levels[..., :3])
    if colours < samples.shape[2]:
        return _with_alpha(colour, levels[..., -1], 16)
    if "transparency" not in image.info:
        return Pixels(colour=colour, alpha=None, bit_depth=16)
    key = _levels(image.info["transparency"])
    return _with_alpha(colour, _keyed_out(samples, key), 16)


def _read_16_bits(image: Image.Image, data: bytes, rawmode: str) -> UInt16[np.ndarray, "h w c"]:
    """All 16 bits of every sample, of which Pillow keeps the upper eight where there is colour.

    Its own unpackers are set to find the others: reading "big-endian" samples as little-endian
    gives the lower bytes, and grey with alpha, read as RGBA, gives both.
    """
    match rawmode:
        case "RGB;16B" | "RGBA;16B":
            low = _read_as(rawmode.replace("16B", "16L"), data)
            high = np.asarray(image).astype(np.uint16)
            return np.asarray((high << np.uint16(8)) + low)
        case "LA;16B":
            return _read_as("RGBA", data).view(">u2").astype(np.uint16)
        case _:
            return np.asarray(image).astype(np.uint16)[..., None]


def _read_as(rawmode: str, data: bytes) -> UInt8[np.ndarray, "h w c"]:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        image.tile = [tile._replace(args=rawmode) for tile in image.tile]
        return np.array(image)


def _keyed_out(
    samples: Shaped[np.ndarray, "h w c"], key: Sequence[int]
) -> UInt8[np.ndarray, "h w"]:
    """Alpha of a picture in which one colour is transparent."""
    return np.where((samples == np.asarray(key)).all(axis=2), 0, 255).astype(np.uint8)


def _levels(key: int | tuple[int, ...]) -> Sequence[int]:
    return key if isinstance(key, tuple) else (key,)


def _with_alpha(colour: Image.Image, alpha: UInt8[np.ndarray, "h w"], bit_depth: int) -> Pixels:
    opaque = bool(alpha.min() == 255)
    return Pixels(colour=colour, alpha=None if opaque else alpha, bit_depth=bit_depth)
