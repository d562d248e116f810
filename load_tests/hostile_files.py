"""What hostile files are built from: small good ones, and the parts of each format by hand."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageCms

PAYLOAD = b"<?php /* HOSTILE-PAYLOAD */ ?><script>alert('HOSTILE-PAYLOAD')</script>"
"""Stands in every polyglot; no answer may hold its name."""
MARK = b"HOSTILE-PAYLOAD"

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# The first column and row of each pass, and the steps.
ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip

Named = Iterator[tuple[str, bytes]]
Family = Callable[[random.Random], Named]


def noise(rng: random.Random, width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A picture of random samples."""
    generator = np.random.default_rng(rng.getrandbits(32))
    if mode in ("I", "I;16"):
        deep = generator.integers(0, 65536, (height, width))
        return Image.fromarray(deep.astype(np.int32 if mode == "I" else np.uint16))
    rgba = Image.fromarray(generator.integers(0, 256, (height, width, 4), dtype=np.uint8))
    if mode == "PA":
        return rgba.convert("P").convert("PA")
    if mode in ("RGBA", "RGBa"):
        return rgba.convert(mode)
    return rgba.convert("RGB").convert("LA" if mode == "La" else mode).convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with the right sum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *chunks: bytes, depth: int = 8, colour: int = 2,
        interlace: int = 0) -> bytes:  # fmt: skip
    """A PNG built by hand, so that its header may lie."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    body = [
        chunk(b"IHDR", header),
        *chunks,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return PNG_MAGIC + b"".join(body)


def riff(*chunks: bytes) -> bytes:
    """A WebP container."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff_chunk(kind: bytes, data: bytes) -> bytes:
    """One of its chunks."""
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def exif_with(orientation: object) -> Image.Exif:
    """EXIF data with an orientation and a place."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = MARK.decode()
    exif.get_ifd(0x8825)[1] = "N"
    return exif


def profile(space: str) -> bytes:
    """An ICC profile without the time of its making."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()
    return data[:24] + bytes(12) + data[36:]


def small_files(rng: random.Random) -> dict[str, bytes]:
    """One small file of every kind that is decoded."""
    rgb, rgba = noise(rng, 5, 4), noise(rng, 5, 4, "RGBA")
    srgb = profile("sRGB")
    return {
        "png-rgb": saved(rgb, "PNG"),
        "png-rgba": saved(rgba, "PNG"),
        "png-p-trns": saved(noise(rng, 5, 4, "P"), "PNG", transparency=3),
        "png-16": saved(noise(rng, 5, 4, "I;16"), "PNG"),
        "png-1": saved(noise(rng, 9, 4, "1"), "PNG"),
        "png-adam7": interlaced(rng, 5, 4, 8, 2),
        "jpeg": saved(rgb, "JPEG", quality=30),
        "jpeg-progressive": saved(noise(rng, 16, 16), "JPEG", quality=30, progressive=True),
        "jpeg-grey": saved(noise(rng, 5, 4, "L"), "JPEG", quality=30),
        "jpeg-cmyk": saved(noise(rng, 5, 4, "CMYK"), "JPEG", quality=30),
        "jpeg-exif": saved(rgb, "JPEG", quality=30, exif=exif_with(6)),
        "webp-lossless": saved(rgb, "WEBP", lossless=True),
        "webp-lossy": saved(rgb, "WEBP", quality=30),
        "webp-alpha": saved(rgba, "WEBP", quality=30),
        "webp-vp8x": saved(rgb, "WEBP", quality=30, exif=exif_with(8), icc_profile=srgb),
    }


def interlaced(rng: random.Random, width: int, height: int, depth: int, colour: int) -> bytes:
    """An Adam7 PNG of random samples, with a palette where it needs one."""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    rows = b"".join(
        b"\0" + rng.randbytes((-(-(width - x) // dx) * bits + 7) // 8)
        for x, y, dx, dy in ADAM7
        for _ in range(y, height, dy)
        if width > x
    )
    palette = [chunk(b"PLTE", rng.randbytes(768))] if colour == 3 else []
    return png(width, height, rows, *palette, depth=depth, colour=colour, interlace=1)
