"""Families of damaged files: cut, with bits turned over, with parts changed, moved or lost."""

import random
import struct
from typing import TypeVar

from hostile_files import (
    PNG_MAGIC,
    Named,
    chunk,
    exif_with,
    noise,
    riff,
    riff_chunk,
    saved,
    small_files,
)

T = TypeVar("T")


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
        how = rng.randrange(5)
        match how:
            case 0 | 1 | 2:
                disorder(rng, parts, which, how)
            case 3 if parts[which][1]:
                body = bytearray(parts[which][1])
                body[rng.randrange(len(body))] = rng.randrange(256)
                parts[which] = parts[which][0], bytes(body)
            case _:
                parts[which] = parts[which][0], parts[which][1] + rng.randbytes(rng.randint(1, 9))
        yield str(number), PNG_MAGIC + b"".join(chunk(k, d) for k, d in parts)


def disorder(rng: random.Random, parts: list[T], which: int, how: int) -> None:
    """Shuffle the parts, double one of them, or lose it."""
    if how == 0:
        rng.shuffle(parts)
    elif how == 1:
        parts.insert(rng.randrange(len(parts)), parts[which])
    else:
        del parts[which]


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
        how = rng.randrange(4)
        match how:
            case 0 | 1 | 2:
                disorder(rng, parts, which, how)
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
        how = rng.randrange(4)
        match how:
            case 0 | 1 | 2:
                disorder(rng, parts, which, how)
            case _:
                body = bytearray(parts[which][1])
                body[rng.randrange(len(body))] = rng.randrange(256)
                parts[which] = parts[which][0], bytes(body)
        yield str(number), riff(*(riff_chunk(k, d) for k, d in parts))
