"""Whether a JPEG has too many scans: each is a pass over all its pixels, for next to no bytes.

A file of 130 kB can hold a thousand over sixteen megapixels and take eleven seconds. libjpeg has
a switch against that, which Pillow does not pass on.
"""

import re

# Within a scan 0xFF is followed by zero, a restart or another 0xFF; two more markers, TEM (0x01)
# and SOI (0xD8), have no length and end nothing. All of them are passed over in C, since a file
# may consist of them.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
_EOI, _SOS = 0xD9, 0xDA
_MAX_SEGMENTS = 10_000  # a profile is 255 at the most; each of these is a step of Python's


def has_more_scans(data: bytes, most: int) -> bool:
    """Say whether there are more scans than ``most``, or segments without end, in the picture.

    What follows the picture's end does not count. Markers are followed as libjpeg's `jdmarker.c`
    does, which skips what stands between them.
    """
    if data.count(bytes([0xFF, _SOS])) <= most:
        return False
    scans = at = segments = 0
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == _EOI:
            return False
        segments += 1
        scans += marker == _SOS
        if scans > most or segments > _MAX_SEGMENTS:
            return True
        at += max(2, int.from_bytes(data[at : at + 2]))
    return False
