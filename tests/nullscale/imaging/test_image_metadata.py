"""What is kept of a file's metadata on request, and what never is."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from nullscale.imaging.encoding import encode_image
from nullscale.imaging.image_io import decode_image

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8))
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6" dc:title="t"/></x:xmpmeta>'
KINDS = ["PNG", "JPEG", "WEBP"]


def exif() -> Image.Exif:
    """As a phone writes it: turned, with a place, a time, sizes, a thumbnail."""
    data = Image.Exif()
    data[ExifTags.Base.Orientation] = 6
    data[ExifTags.Base.Make] = "a camera"
    data[ExifTags.Base.ImageWidth] = 20
    data.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2026:01:02 03:04:05"
    data.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = 20
    data.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return data


def saved(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, kind, **options)
    return buffer.getvalue()


def answer(kind: str, source_kind: str, *, keep: bool) -> Image.Image:
    source = decode_image(saved(source_kind, exif=exif()))
    kept = source.exif if keep else None
    return Image.open(io.BytesIO(encode_image(source.samples, kind.lower(), exif=kept)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source_kind", KINDS)
def test_exif_is_kept_on_request_and_says_upright(kind: str, source_kind: str) -> None:
    kept = answer(kind, source_kind, keep=True).getexif()
    assert kept[ExifTags.Base.Orientation] == 1
    assert kept[ExifTags.Base.Make] == "a camera"
    assert kept.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    details = kept.get_ifd(ExifTags.IFD.Exif)
    assert details[ExifTags.Base.DateTimeOriginal] == "2026:01:02 03:04:05"
    assert ExifTags.Base.ImageWidth not in kept, "that is not the answer's width"
    assert ExifTags.Base.ExifImageWidth not in details


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_kept_without_request(kind: str) -> None:
    stripped = answer(kind, "JPEG", keep=False)
    assert not dict(stripped.getexif())
    assert not {"exif", "xmp", "XML:com.adobe.xmp", "comment"} & stripped.info.keys()


def test_thumbnails_are_dropped() -> None:
    # A second directory, reached from the end of the first, with a picture behind it.
    first = b"\0\1" + bytes.fromhex("010f 0002 00000004 61626300") + bytes.fromhex("0000001a")
    second = b"\0\1" + bytes.fromhex("0201 0004 00000001 0000002c") + bytes(4)
    data = b"Exif\0\0MM\0*\0\0\0\x08" + first + second + b"THUMBNAIL"
    with Image.open(io.BytesIO(saved("JPEG", exif=data))) as image:
        assert image.getexif().get_ifd(ExifTags.IFD.IFD1)
    kept = decode_image(saved("JPEG", exif=data)).exif
    assert kept is not None and b"abc" in kept and b"THUMBNAIL" not in kept
    read = Image.Exif()
    read.load(kept)
    assert not read.get_ifd(ExifTags.IFD.IFD1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source_kind", ["JPEG", "WEBP"])
def test_xmp_is_kept_on_request_and_says_upright(kind: str, source_kind: str) -> None:
    source = decode_image(saved(source_kind, xmp=XMP))
    assert source.samples.shape[:2] == (20, 12), "XMP's orientation counts where EXIF has none"
    encoded = encode_image(source.samples, kind.lower(), xmp=source.xmp)
    with Image.open(io.BytesIO(encoded)) as image:
        image.load()
        kept = image.info.get("xmp")
    assert kept == XMP.replace(b'Orientation="6"', b'Orientation="1"')
    assert decode_image(encoded).samples.shape == source.samples.shape


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_jpeg_cannot_hold_is_left_out(kind: str) -> None:
    long = b"<x>" + b"a" * 70_000 + b"</x>"
    encoded = encode_image(np.asarray(PICTURE), kind.lower(), xmp=long)
    with Image.open(io.BytesIO(encoded)) as image:
        image.load()
        assert image.info.get("xmp") == (None if kind == "JPEG" else long)


def test_exif_too_long_for_a_jpeg_is_dropped() -> None:
    data = exif()
    data[ExifTags.Base.ImageDescription] = "a" * 70_000
    source = decode_image(saved("PNG", exif=data))
    assert source.exif is None and source.samples.shape[:2] == (20, 12)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_exif_is_neither_read_nor_kept() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(exif().tobytes())
        for at in rng.integers(6, len(data), 3):
            data[at] = rng.integers(256)
        source = decode_image(saved("PNG", exif=bytes(data)))
        if source.exif is not None:
            assert encode_image(source.samples, "jpeg", exif=source.exif)


def test_a_file_without_metadata_has_none() -> None:
    source = decode_image(saved("PNG"))
    assert source.exif is None and source.xmp is None
