"""Families of files with something beside the picture: payloads, profiles, orientations."""

import itertools
import random
import struct

from hostile_files import PAYLOAD, Named, chunk, exif_with, noise, png, profile, saved
from PIL import PngImagePlugin


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
