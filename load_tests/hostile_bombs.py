"""Families of files that cost more than they weigh."""

import itertools
import random
import struct
import zlib

from hostile_files import Named, chunk, noise, png, riff, riff_chunk, saved
from PIL import Image


def declared(rng: random.Random) -> Named:
    """Bombs by declared size, and sizes of nothing."""
    sides = (0, 1, 4096, 4097, 9459, 16384, 32768, 65535, 2**31 - 1, 2**32 - 1)
    for width, height in itertools.product(sides, sides):
        yield f"png-{width}-{height}", png(width, height, b"\0\1\2\3")
    jpeg = saved(noise(rng, 16, 16), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    for width, height in itertools.product((0, 1, 4097, 10000, 65500, 65535), repeat=2):
        size = struct.pack(">HH", height, width)
        yield f"jpeg-{width}-{height}", jpeg[:at] + size + jpeg[at + 4 :]
    lossy, lossless = (
        saved(noise(rng, 9, 9), "WEBP"),
        saved(noise(rng, 9, 9), "WEBP", lossless=True),
    )
    for side in (1, 4097, 10000, 16383):
        canvas = (side - 1).to_bytes(3, "little") * 2
        yield f"vp8x-{side}", riff(riff_chunk(b"VP8X", b"\0" * 4 + canvas), lossy[12:])
        yield f"vp8-{side}", lossy[:26] + struct.pack("<HH", side, side) + lossy[30:]
        packed = struct.pack("<I", (side - 1) | (side - 1) << 14)
        yield f"vp8l-{side}", lossless[:21] + packed + lossless[25:]
    canvas = b"\xff\xff\xff" * 2
    yield "vp8x-all", riff(riff_chunk(b"VP8X", b"\0" * 4 + canvas), lossy[12:])


def bombs(rng: random.Random) -> Named:
    """What grows when it is unpacked: text, profiles, pixels, frames, EXIF, scans."""
    for size in (2**20, 2**21, 2**24, 2**27):
        packed = zlib.compress(bytes(size), 9)
        for kind, head in (
            (b"zTXt", b"name\0\0"),
            (b"iCCP", b"name\0\0"),
            (b"iTXt", b"name\0\1\0\0\0"),
        ):
            bomb = chunk(kind, head + packed)
            yield f"{kind.decode()}-{size}", png(1, 1, b"\0\1\2\3", bomb)
            if size == 2**20:
                yield f"{kind.decode()}-many", png(1, 1, b"\0\1\2\3", *[bomb] * 80)
        yield f"IDAT-{size}", png(1, 1, b"\0\1\2\3" + bytes(size))
    for length in (2**16, 2**31 - 1, 2**32 - 1):
        lying = struct.pack(">I", length) + b"tEXtname\0text"
        yield f"length-{length}", saved(noise(rng, 2, 2), "PNG").replace(b"\0\0\0\0IEND", lying)
    frames = [noise(rng, 8, 8) for _ in range(200)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "MPO"):
        for count in (2, 200):
            more = frames[1:count]
            yield f"{kind}-{count}", saved(frames[0], kind, save_all=True, append_images=more)
    still = saved(frames[0], "PNG")
    for count in (0, 1, 2, 2**31 - 1, 2**32 - 1):
        actl = chunk(b"acTL", struct.pack(">II", count, 0))
        yield f"acTL-{count}", still[:33] + actl + still[33:]
    for entries, size in ((2500, 30_000), (3000, 1_000_000), (65535, 3_000_000)):
        exif = overlapping_exif(entries, size)
        yield f"exif-png-{size}", saved(frames[0], "PNG", exif=exif)
        yield f"exif-webp-{size}", saved(frames[0], "WEBP", lossless=True, exif=exif)
        yield f"exif-jpeg-{size}", jpeg_with_exif(saved(frames[0], "JPEG"), exif)
    for count in (10, 90, 5000):
        yield f"scans-{count}", many_scans(rng, count)
    yield "white-16-megapixels", saved(Image.new("1", (4096, 4096), 1), "PNG")
    yield "clear-16-megapixels", saved(Image.new("RGBA", (4096, 4096)), "PNG")


def overlapping_exif(entries: int, size: int) -> bytes:
    """EXIF whose entries all show the same ``size`` bytes."""
    at = 8 + 2 + 12 * entries + 4
    listed = b"".join(struct.pack("<HHII", tag, 7, size, at) for tag in range(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + listed + bytes(4 + size)


def jpeg_with_exif(jpeg: bytes, exif: bytes) -> bytes:
    """A JPEG with EXIF data of any length, in as many segments as it takes, and no JFIF header."""
    rest = jpeg[4 + int.from_bytes(jpeg[4:6]) :]
    parts = [b"Exif\0\0" + exif[i : i + 65000] for i in range(0, len(exif), 65000)]
    return b"\xff\xd8" + b"".join(
        b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts
    ) + rest  # fmt: skip


def many_scans(rng: random.Random, count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = saved(noise(rng, 64, 64), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * count + data[-2:]
