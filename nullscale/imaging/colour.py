"""Any colour space that a file can have to sRGB."""

import io
import struct

import numpy as np
from PIL import Image, ImageCms

_BROKEN = (OSError, ValueError, SyntaxError, struct.error)


def to_srgb(colour: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert L, RGB or CMYK to RGB through its ICC profile; one of no use is passed over."""
    plain = colour.convert("RGB")
    if profile is None:
        return plain
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            colour, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, *_BROKEN):
        return plain
    if converted is None:
        return plain
    # sRGB by another vendor moves samples by a level; such a photo must come back as it was sent.
    moved = np.abs(np.asarray(converted).astype(np.int16) - np.asarray(plain).astype(np.int16))
    return converted if moved.max() > 1 else plain
