"""Every kind of file that is taken or refused, and what comes out of it."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from nullscale.errors import (
    ImageTooLarge,
    InvalidImage,
    TransparencyUnsupported,
    UnsupportedImageType,
)
from nullscale.imaging.image_io import ImageLimits, decode_image


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png(
    width: int, height: int, *chunks: bytes, bit_depth: int = 8, colour: int = 2, rows: bytes = b""
) -> bytes:
    """A PNG file built by hand, so that its header may lie."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *chunks,
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (13, 7)])
def test_lossless_rgb_comes_back_as_it_is(kind: str, size: tuple[int, int]) -> None:
    picture = noise(*size)
    data = saved(Image.fromarray(picture), kind, lossless=True)
    np.testing.assert_array_equal(decode_image(data).samples, picture)


def test_jpeg_is_pillows_own_decoding() -> None:
    data = saved(Image.fromarray(noise(24, 16)), "JPEG", quality=80)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode_image(data).samples, expected)


def test_16_bits_are_scaled_not_clipped() -> None:
    deep = np.arange(0, 65536, 257 * 5, dtype=np.uint16).reshape(4, 13)
    deep[0, 1] = 40000
    grey = decode_image(saved(Image.fromarray(deep))).samples
    np.testing.assert_array_equal(grey[..., 0], np.rint(deep / 257))
    assert (grey[..., 0] == grey[..., 1]).all()


def test_16_bit_colour_is_scaled_to_a_level() -> None:
    samples = np.array([[[65535, 40000, 257]]], dtype=">u2")
    data = png(1, 1, bit_depth=16, rows=b"\0" + samples.tobytes())
    np.testing.assert_allclose(decode_image(data).samples[0, 0], [255, 155.6, 1], atol=0.5)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "LA", "RGBA"])
def test_other_modes_become_the_colours_pillow_shows(mode: str) -> None:
    image = Image.fromarray(noise(9, 5)).convert(mode)
    data = saved(image, "JPEG" if mode == "CMYK" else "PNG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode_image(data).samples, expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_transparency_is_kept(mode: str) -> None:
    rgba = Image.fromarray(noise(6, 5, 4))
    image = Image.new("P", (5, 6), 1) if mode == "P" else rgba.convert(mode)
    if mode == "P":
        image.putpixel((2, 3), 0)
    data = saved(image, **({"transparency": 0} if mode == "P" else {}))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA").convert("RGBa"))
    source = decode_image(data)
    np.testing.assert_array_equal(source.samples, expected[..., :3])
    np.testing.assert_array_equal(source.alpha, expected[..., 3])


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_an_alpha_that_hides_nothing_is_none(mode: str) -> None:
    rgba = np.dstack([noise(6, 5), np.full((6, 5), 255, np.uint8)])
    image = Image.new("P", (5, 6), 1) if mode == "P" else Image.fromarray(rgba).convert(mode)
    data = saved(image, **({"transparency": 0} if mode == "P" else {}))
    assert decode_image(data, output_format="jpeg").alpha is None


def test_transparency_does_not_fit_into_jpeg() -> None:
    data = saved(Image.fromarray(noise(6, 5, 4)))
    with pytest.raises(TransparencyUnsupported):
        decode_image(data, output_format="jpeg")


def test_what_is_invisible_has_no_colour() -> None:
    rgba = noise(6, 5, 4)
    rgba[..., 3] = 0
    assert (decode_image(saved(Image.fromarray(rgba))).samples == 0).all()


def test_transparency_is_turned_with_its_picture() -> None:
    rgba = noise(3, 7, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    source = decode_image(saved(Image.fromarray(np.ascontiguousarray(np.rot90(rgba))), exif=exif))
    np.testing.assert_array_equal(source.alpha, rgba[..., 3])


@pytest.mark.parametrize(
    ("bit_depth", "image"),
    [
        (8, Image.new("RGB", (2, 2))),
        (8, Image.new("1", (2, 2))),
        (16, Image.fromarray(np.zeros((2, 2), np.uint16))),
    ],
)
def test_the_files_own_depth_is_told(bit_depth: int, image: Image.Image) -> None:
    assert decode_image(saved(image)).bit_depth == bit_depth


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int) -> None:
    upright = noise(3, 2)
    turns = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))
    np.testing.assert_array_equal(decode_image(saved(stored, exif=exif)).samples, upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_broken_orientation_is_ignored() -> None:
    picture = noise(3, 2)
    data = saved(Image.fromarray(picture), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01broken")
    np.testing.assert_array_equal(decode_image(data).samples, picture)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


@pytest.mark.parametrize("profile", [SRGB, LAB, b"no profile"], ids=["sRGB", "Lab", "broken"])
def test_profiles_that_say_nothing_change_nothing(profile: bytes) -> None:
    picture = noise(6, 6)
    data = saved(Image.fromarray(picture), icc_profile=profile)
    np.testing.assert_array_equal(decode_image(data).samples, picture)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_profile_is_applied(orientation: int) -> None:
    # sRGB with the names of two primaries exchanged: its red is green.
    swapped = SRGB.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    exif = Image.Exif()
    exif[0x0112] = orientation
    red = Image.new("RGB", (2, 2), (250, 5, 5))
    decoded = decode_image(saved(red, icc_profile=swapped, exif=exif)).samples
    np.testing.assert_allclose(decoded, np.broadcast_to([5, 250, 5], (2, 2, 3)), atol=2)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0junk"])
def test_stubs_are_invalid(data: bytes) -> None:
    with pytest.raises(InvalidImage) as caught:
        decode_image(data)
    assert caught.type is InvalidImage


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "PPM", "ICO"])
def test_other_types_are_unsupported(kind: str) -> None:
    with pytest.raises(UnsupportedImageType):
        decode_image(saved(Image.fromarray(noise(16, 16)), kind))


@pytest.mark.parametrize(
    "data", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"%PDF-1.7", b"8BPS\0\1"]
)
def test_documents_are_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedImageType):
        decode_image(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_files_are_invalid(kind: str, share: float) -> None:
    data = saved(Image.fromarray(noise(64, 64)), kind)
    with pytest.raises(InvalidImage):
        decode_image(data[: int(share * len(data))])


def test_bad_checksum_in_the_pixels_is_invalid() -> None:
    data = bytearray(saved(Image.fromarray(noise(8, 8))))
    at = data.index(b"IDAT") + 4
    data[at + 60] ^= 1
    with pytest.raises(InvalidImage):
        decode_image(bytes(data))


@pytest.mark.parametrize("kind", ["zTXt", "iCCP"])
def test_decompression_bombs_are_invalid(kind: str) -> None:
    bomb = chunk(kind.encode(), b"name\0\0" + zlib.compress(bytes(2**24)))
    data = png(1, 1, bomb, rows=b"\0\1\2\3")
    with pytest.raises(InvalidImage):
        decode_image(data)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_no_pixels_are_invalid(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidImage):
        decode_image(png(*size))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_invalid(kind: str) -> None:
    frames = [Image.fromarray(noise(8, 8, seed=i)) for i in range(3)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(InvalidImage, match="more than one frame"):
        decode_image(data)


def test_a_phones_second_picture_is_left_alone() -> None:
    frames = [Image.fromarray(noise(16, 16, seed=i)) for i in range(2)]
    data = saved(frames[0], "MPO", save_all=True, append_images=frames[1:])
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode_image(data).samples, expected)


def test_sizes_are_judged_by_the_header() -> None:
    # Its pixels are missing, so decoding it first would find it broken.
    claims = png(3000, 1000)
    limits = ImageLimits(max_input_pixels=2_999_999, max_output_pixels=10**9)
    with pytest.raises(ImageTooLarge, match="3000 × 1000"):
        decode_image(claims, limits)
    with pytest.raises(InvalidImage, match="broken"):
        decode_image(claims, ImageLimits(max_input_pixels=3_000_000))


def test_pillows_own_bomb_limit_counts_too() -> None:
    with pytest.raises(ImageTooLarge):
        decode_image(png(2**30, 2**30), ImageLimits(max_input_pixels=2**62))


def test_output_size_is_limited() -> None:
    data = saved(Image.fromarray(noise(10, 20)))
    limits = ImageLimits(max_input_pixels=200, max_output_pixels=27 * 54)
    assert decode_image(data, limits, scale=2.7).samples.shape == (10, 20, 3)
    with pytest.raises(ImageTooLarge, match="the result would have"):
        decode_image(data, limits, scale=2.8)


@pytest.mark.parametrize(("kind", "longest"), [("png", 32768), ("jpeg", 32768), ("webp", 16383)])
def test_output_must_fit_its_format(kind: str, longest: int) -> None:
    largest = longest // 16
    fits, too_wide = (saved(Image.fromarray(noise(1, w))) for w in (largest, largest + 1))
    fitting = decode_image(fits, scale=16, output_format=kind)
    assert fitting.samples.shape[1] == largest
    with pytest.raises(ImageTooLarge, match=f"at most {longest}"):
        decode_image(too_wide, scale=16, output_format=kind)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_files_are_decoded_or_refused(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    damaged = bytearray(saved(Image.fromarray(noise(12, 12)), kind))
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode_image(bytes(damaged)).samples
    except InvalidImage:
        return
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
