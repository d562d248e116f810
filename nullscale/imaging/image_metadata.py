"""Orientation, EXIF and XMP: what a file says of its picture, read with distrust."""

import re
import struct

from PIL import ExifTags, Image

MAX_EXIF_BYTES = 65533
"""What a JPEG's segment holds; cameras write no more."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The size that a file had is not that of the answer.
_SIZES = (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength)
_EXIF_SIZES = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>)\s*)[0-9]+""")
# EXIF holds whatever its writer liked.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error)


def upright_turn(image: Image.Image) -> Image.Transpose | None:
    """Return what turns the picture as its EXIF or XMP says; broken data says nothing."""
    try:
        return _UPRIGHT[image.getexif()[ExifTags.Base.Orientation]]
    except _BROKEN:
        return None


def kept_exif(image: Image.Image) -> bytes | None:
    """Return the EXIF data of an upright copy: without orientation, sizes and thumbnail.

    Data longer than `MAX_EXIF_BYTES` is dropped.
    """
    if not {"exif", "Raw profile type exif"} & image.info.keys():
        return None
    try:
        exif = image.getexif()
        if ExifTags.Base.Orientation in exif:
            exif[ExifTags.Base.Orientation] = 1
        for tag in _SIZES:
            exif.pop(tag, None)
        details = exif.get_ifd(ExifTags.IFD.Exif)
        for tag in _EXIF_SIZES:
            details.pop(tag, None)
        # The thumbnail stands in a directory of its own, which is not written.
        data = exif.tobytes()
        return data if len(exif) and len(data) <= MAX_EXIF_BYTES else None
    except (*_BROKEN, AttributeError):
        return None


def kept_xmp(image: Image.Image) -> bytes | None:
    """Return the XMP packet, its orientation reset."""
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp) if isinstance(xmp, bytes) else None
