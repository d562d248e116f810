"""How many scans a JPEG has: each costs a pass over all its pixels, and may cost next to no bytes.

A file of 130 kB can hold a thousand over sixteen megapixels and take eleven seconds. libjpeg has
a switch against that, which Pillow does not pass on.
"""

import re

# Within a scan 0xFF is followed by zero, a restart or another 0xFF.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_TEM, _SOI, _EOI, _SOS = 0x01, 0xD8, 0xD9, 0xDA


def count_scans(data: bytes) -> int:
    """Count the scans up to the picture's end; what follows it does not count.

    Markers are followed as libjpeg's `jdmarker.c` does, which skips what stands between them.
    """
    most = data.count(bytes([0xFF, _SOS]))
    if most < 2:
        return most
    scans = at = 0
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == _EOI:
            break
        if marker in (_TEM, _SOI):
            continue
        scans += marker == _SOS
        at += max(2, int.from_bytes(data[at : at + 2]))
    return scans
