"""Files that no picture service wants to be sent, made from a seed.

Each family is one function. What a file must be answered with is not said here: `hostile_oracle`
judges the bytes alone.
"""

import io
import itertools
import random
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

PAYLOAD = b"<?php /* HOSTILE-PAYLOAD */ ?><script>alert('HOSTILE-PAYLOAD')</script>"
"""Stands in every polyglot; no answer may hold its name."""
MARK = b"HOSTILE-PAYLOAD"

MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV",
         "LAB", "I", "I;16", "F")  # fmt: skip
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# The first column and row of each pass, and the steps.
ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
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


@dataclass(frozen=True, slots=True)
class Case:
    """One file and the family that it comes from."""

    name: str
    data: bytes

    @property
    def family(self) -> str:
        """The part of the name before the first slash."""
        return self.name.split("/")[0]


def corpus(seed: int = 0) -> list[Case]:
    """Every case, in an order that mixes the families."""
    cases = [case for family in FAMILIES for case in members(family, seed)]
    random.Random(seed).shuffle(cases)
    return cases


def members(family: "Family", seed: int) -> list[Case]:
    """The cases of one family."""
    name = family.__name__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [Case(f"{name}/{n}", data) for n, data in family(random.Random(f"{name}-{seed}"))]


def sample(cases: list[Case], count: int) -> list[Case]:
    """The same number of each family, as far as it has as many."""
    families = [[c for c in cases if c.family == f.__name__] for f in FAMILIES]
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*families))
    return [case for case in in_turn if case is not None][:count]


# Building blocks


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


# Families

Named = Iterator[tuple[str, bytes]]
Family = Callable[[random.Random], Named]


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


def truncated(rng: random.Random) -> Named:
    """Small files, cut at every byte."""
    for name, data in small_files(rng).items():
        # From 900 bytes on every third has to do: tables and profiles, all of a kind.
        for end in range(0, len(data), 1 if len(data) < 900 else 3):
            yield f"{name}-{end}", data[:end]


def flipped(rng: random.Random) -> Named:
    """Small files with one to four bits turned over."""
    for name, data in small_files(rng).items():
        for number in range(100):
            damaged = bytearray(data)
            for _ in range(rng.randint(1, 4)):
                damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            yield f"{name}-{number}", bytes(damaged)


def resummed(rng: random.Random) -> Named:
    """PNG files whose chunks are changed, moved, doubled or lost, each with the right sum."""
    bases = [d for n, d in small_files(rng).items() if n.startswith("png")]
    bases.append(saved(noise(rng, 6, 5), "PNG", exif=exif_with(3), dpi=(9, 9)))
    for number in range(420):
        data, parts = rng.choice(bases), []
        at = 8
        while at < len(data):
            (length,) = struct.unpack(">I", data[at : at + 4])
            parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
            at += 12 + length
        which = rng.randrange(len(parts))
        match rng.randrange(5):
            case 0:
                rng.shuffle(parts)
            case 1:
                parts.insert(rng.randrange(len(parts)), parts[which])
            case 2:
                del parts[which]
            case 3 if parts[which][1]:
                body = bytearray(parts[which][1])
                body[rng.randrange(len(body))] = rng.randrange(256)
                parts[which] = parts[which][0], bytes(body)
            case _:
                parts[which] = parts[which][0], parts[which][1] + rng.randbytes(rng.randint(1, 9))
        yield str(number), PNG_MAGIC + b"".join(chunk(k, d) for k, d in parts)


def segments(rng: random.Random) -> Named:
    """JPEG files whose segments are changed, moved, doubled or lost."""
    bases = [d for n, d in small_files(rng).items() if n.startswith("jpeg")]
    for number in range(300):
        data, parts = rng.choice(bases), []
        at = 2
        while data[at + 1] != 0xDA:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
            parts.append(data[at:end])
            at = end
        scans, which = data[at:], rng.randrange(len(parts))
        match rng.randrange(4):
            case 0:
                rng.shuffle(parts)
            case 1:
                parts.insert(rng.randrange(len(parts)), parts[which])
            case 2:
                del parts[which]
            case _:
                body = bytearray(parts[which])
                body[rng.randrange(1, len(body))] = rng.randrange(256)
                parts[which] = bytes(body)
        yield str(number), b"\xff\xd8" + b"".join(parts) + scans


def containers(rng: random.Random) -> Named:
    """WebP files whose chunks are changed, moved, doubled or lost."""
    bases = [d for n, d in small_files(rng).items() if n.startswith("webp")]
    for number in range(300):
        data, parts = rng.choice(bases), []
        at = 12
        while at + 8 <= len(data):
            length = int.from_bytes(data[at + 4 : at + 8], "little")
            parts.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
            at += 8 + length + length % 2
        which = rng.randrange(len(parts))
        match rng.randrange(4):
            case 0:
                rng.shuffle(parts)
            case 1:
                parts.insert(rng.randrange(len(parts)), parts[which])
            case 2:
                del parts[which]
            case _:
                body = bytearray(parts[which][1])
                body[rng.randrange(len(body))] = rng.randrange(256)
                parts[which] = parts[which][0], bytes(body)
        yield str(number), riff(*(riff_chunk(k, d) for k, d in parts))


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


def polyglots(rng: random.Random) -> Named:
    """Files that are something else as well."""
    plain = {"png": saved(noise(rng, 9, 7), "PNG"), "jpeg": saved(noise(rng, 9, 7), "JPEG"),
             "webp": saved(noise(rng, 9, 7), "WEBP", lossless=True)}  # fmt: skip
    tails = {
        "zip": b"PK\3\4" + PAYLOAD + b"PK\5\6" + bytes(18),
        "html": b"<html><body>" + PAYLOAD + b"</body></html>",
        "js": b"*/alert(1);//" + PAYLOAD,
        "pdf": b"\n%PDF-1.4\n" + PAYLOAD,
        "elf": b"\x7fELF" + PAYLOAD,
        "png": plain["png"] + PAYLOAD,
    }
    for (name, data), (tail, bytes_) in itertools.product(plain.items(), tails.items()):
        yield f"{name}-{tail}", data + bytes_
    picture, text = noise(rng, 9, 7), PAYLOAD.decode()
    yield "jpeg-comment", saved(picture, "JPEG", comment=PAYLOAD)
    for name, options in {
        "exif": {"exif": exif_with(1)},
        "xmp": {"xmp": PAYLOAD},
        "icc": {"icc_profile": PAYLOAD},
    }.items():
        for kind in ("PNG", "JPEG", "WEBP"):
            if (name, kind) != ("xmp", "PNG"):
                yield f"{name}-{kind}", saved(picture, kind, **options)
    for add in ("add_text", "add_itxt"):
        info = PngImagePlugin.PngInfo()
        getattr(info, add)("Comment", text)
        getattr(info, add)("XML:com.adobe.xmp", text)
        yield f"png-{add}", saved(picture, "PNG", pnginfo=info)
    yield "png-unknown-chunk", png(1, 1, b"\0\1\2\3", chunk(b"heLo", PAYLOAD))
    yield "png-palette", png(1, 1, b"\0\0", chunk(b"PLTE", PAYLOAD[:69]), colour=3)
    gif_in_name = b"RIFF" + struct.pack("<I", 4 + len(PAYLOAD)) + b"WEBP" + PAYLOAD
    yield "webp-of-text", gif_in_name


def profiles(rng: random.Random) -> Named:
    """ICC profiles that are broken or of the wrong kind."""
    srgb = profile("sRGB")
    known = {
        "srgb": srgb,
        "lab": profile("LAB"),
        "xyz": profile("XYZ"),
        "swapped": srgb.replace(b"rXYZ", b"????")
        .replace(b"gXYZ", b"rXYZ")
        .replace(b"????", b"gXYZ"),
        "grey": srgb.replace(b"RGB XYZ ", b"GRAYXYZ "),
        "cmyk": srgb.replace(b"RGB XYZ ", b"CMYKXYZ "),
        "none": b"\0",
        "noise": rng.randbytes(600),
    }
    for (name, icc), mode in itertools.product(known.items(), ("L", "RGB", "RGBA", "P", "I;16")):
        yield f"{name}-{mode}", saved(noise(rng, 6, 5, mode), "PNG", icc_profile=icc)
    for (name, icc), mode in itertools.product(known.items(), ("L", "RGB", "CMYK")):
        yield f"jpeg-{name}-{mode}", saved(noise(rng, 6, 5, mode), "JPEG", icc_profile=icc)
    for number in range(120):
        damaged = bytearray(known["swapped" if number % 2 else "srgb"])
        for _ in range(rng.randint(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        cut = rng.choice((len(damaged), rng.randrange(1, len(damaged))))
        kind = rng.choice(("PNG", "JPEG", "WEBP"))
        yield str(number), saved(noise(rng, 6, 5), kind, icc_profile=bytes(damaged[:cut]))


def orientations(rng: random.Random) -> Named:
    """All eight, and what is none."""
    for kind, turn in itertools.product(("PNG", "JPEG", "WEBP"), (*range(10), 255, 65535)):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = saved(noise(rng, 5, 3), kind, exif=exif_with(turn), **options)
        yield f"{kind}-{turn}", data
    for mode, turn in itertools.product(("L", "LA", "RGBA", "P", "1", "I;16"), range(1, 9)):
        yield f"{mode}-{turn}", saved(noise(rng, 5, 3, mode), "PNG", exif=exif_with(turn))
    for number in range(90):
        exif = bytearray(exif_with(rng.randint(2, 8)).tobytes())
        for _ in range(rng.randint(1, 4)):
            exif[rng.randrange(6, len(exif))] = rng.randrange(256)
        kind = rng.choice(("PNG", "JPEG", "WEBP"))
        yield f"broken-{number}", saved(noise(rng, 5, 3), kind, exif=bytes(exif))
    for turn in range(1, 9):
        xmp = f'<x tiff:Orientation="{turn}"/>'.encode()
        yield f"xmp-{turn}", saved(noise(rng, 5, 3), "JPEG", xmp=xmp)


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


FAMILIES: tuple[Family, ...] = (
    written, magics, truncated, flipped, resummed, segments, containers, headers, declared, bombs,
    polyglots, profiles, orientations, shapes,
)  # fmt: skip
