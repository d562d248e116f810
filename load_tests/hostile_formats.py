"""Families of files by format: all that can be written, declared, or pretended."""

import itertools
import random
import time
from typing import Any

from hostile_files import PNG_MAGIC, Named, chunk, interlaced, noise, png, saved
from PIL import Image

MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV",
         "LAB", "I", "I;16", "F")  # fmt: skip
# Beginnings of what Pillow reads and cannot write, and of what is no picture at all.
MAGICS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"%PDF-1.7\n", b"<svg xmlns=", b"<?xml ",
    b"<!DOCTYPE html>", b"8BPS\0\1", b"SIMPLE  =                    T", b"GRIB\0\0\0\1", b"BUFR",
    b"\x89HDF\r\n\x1a\n", b"\xd7\xcd\xc6\x9a\0\0", b"\1\0\0\0\x6c\0\0\0", b"gimp xcf file\0",
    b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypmif1", b"\0\0\0\x1cftypavif", b"\xff\x0a",
    b"\0\0\0\x0cJXL \r\n\x87\n", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"PK\3\4",
    b"\x7fELF", b"MZ\x90\0", b"\x1f\x8b\x08", b"BZh9", b"Rar!\x1a\7", b"\0\0\0\x18ftypmp42",
    b"\x1aE\xdf\xa3", b"RIFF\x24\0\0\0WAVEfmt ", b"RIFF\x24\0\0\0AVI LIST", b"\xff\xd8", b"\xff",
    b"\x89PNG", b"\x89PNG\r\n\x1a\r", b"MNG\r\n", b"\x8aMNG\r\n\x1a\n", b"\x8bJNG\r\n\x1a\n",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\xb1\x68\xde\x3a", b"\x59\xa6\x6a\x95", b"/* XPM */",
    b"\x80\xe8\0\0", b"\0\0\0\0\0\0\0\4", b"FTEX", b"FTC\0", b"\0\0\2\0\1\0", b"\x11\xaf",
    b"\0\0\0\x20GIMP", b"\x1c\2", b"P7 332\n", b"#define x_width 9\n", b"import os\n", b"\0" * 64,
    b"\xef\xbb\xbf" + PNG_MAGIC, b" " + PNG_MAGIC, b"\n\xff\xd8\xff\xe0", b"GIF87a", b"II*\0",
)  # fmt: skip


def written(rng: random.Random) -> Named:
    """Every mode in every format that Pillow writes."""
    Image.init()
    # Nothing may depend on the time, which stands in documents, and in profiles made for Lab.
    options_of: dict[str, dict[str, Any]] = {
        "PDF": {"creationDate": time.gmtime(0), "modDate": time.gmtime(0)},
        "AVIF": {"speed": 10},
    }
    for kind, mode in itertools.product(sorted(Image.SAVE), MODES):
        if mode == "LAB" and kind in ("AVIF", "TIFF"):
            continue
        # Not every format takes every mode, and each says so in a way of its own.
        try:
            options = options_of.get(kind, {})
            yield f"{kind}-{mode}", saved(noise(rng, 16, 16, mode), kind, **options)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
            continue


def magics(rng: random.Random) -> Named:
    """What begins like something else, and goes on at random."""
    for number, magic in enumerate(MAGICS):
        for length in (0, 20, 3000):
            yield f"{number}-{length}", magic + rng.randbytes(length)
    yield "empty", b""


def headers(rng: random.Random) -> Named:
    """PNG of every colour type and depth, real or not, plain and interlaced."""
    for colour, depth, interlace in itertools.product(range(8), (0, 1, 2, 3, 4, 8, 16, 32), (0, 1)):
        bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
        name = f"{colour}-{depth}-{interlace}"
        if interlace:
            yield name, interlaced(rng, 11, 7, depth, colour)
            continue
        rows = b"".join(b"\0" + rng.randbytes((11 * bits + 7) // 8) for _ in range(7))
        palette = chunk(b"PLTE", rng.randbytes(768))
        yield name, png(11, 7, rows, *[palette] * (colour == 3), depth=depth, colour=colour)
        yield f"{name}-short", png(11, 7, rows[:-3], palette, depth=depth, colour=colour)
        yield f"{name}-palette", png(11, 7, rows, chunk(b"PLTE", b"abcdef"), depth=depth, colour=3)
        yield f"{name}-filter", png(11, 7, b"\x07" + rows[1:], palette, depth=depth, colour=colour)


def shapes(rng: random.Random) -> Named:
    """Odd sizes of every mode, which are good pictures."""
    sizes = ((1, 1), (1, 4096), (4096, 1), (2, 3), (127, 129))
    for (width, height), mode in itertools.product(sizes, ("1", "L", "LA", "P", "RGB", "RGBA")):
        yield f"png-{mode}-{width}-{height}", saved(noise(rng, width, height, mode), "PNG")
    for (width, height), mode in itertools.product(sizes, ("L", "RGB", "CMYK")):
        yield f"jpeg-{mode}-{width}-{height}", saved(noise(rng, width, height, mode), "JPEG")
    for (width, height), lossless in itertools.product(sizes, (True, False)):
        picture = noise(rng, width, height, "RGBA")
        yield f"webp-{width}-{height}-{lossless}", saved(picture, "WEBP", lossless=lossless)
