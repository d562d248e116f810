"""Decoded pixels against libvips, which shares no decoding with Pillow's own code, and against
closed forms.

libvips reads PNG, JPEG and WebP itself, applies orientation, and premultiplies in floating point.
Where a tolerance is given, it is in levels of 255.
"""

import io
import struct
import zlib

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms

from nullscale.imaging.encoding import encode_image
from nullscale.imaging.image_io import SourceImage, decode_image

# Two inverse cosine transforms may round apart; colour conversion from YCbCr then adds to it.
JPEG_TOLERANCE = 2
# Both go through Little CMS, ours at eight bits.
PROFILE_TOLERANCE = 1


def noise(*shape: int, seed: int = 0, deep: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 65536 if deep else 256, shape, dtype=np.uint16 if deep else np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Colours of the whole range, without the edges on which JPEG decoders differ."""
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.rint(255 * np.stack([rows, columns, (rows + 1 - columns) / 2], -1)).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def vips(data: bytes) -> np.ndarray:
    """The samples as libvips stores them, always with channels."""
    array: np.ndarray = pyvips.Image.new_from_buffer(data, "").numpy()
    return array if array.ndim == 3 else array[..., None]


def differs(source: SourceImage, expected: np.ndarray) -> float:
    """The most that a sample differs by."""
    samples = source.samples if source.alpha is None else np.dstack([source.samples, source.alpha])
    assert samples.shape == expected.shape
    return float(np.abs(samples.astype(float) - expected).max())


def premultiplied(straight: np.ndarray) -> np.ndarray:
    """libvips' own product of RGBA at eight bits, rounded."""
    image = pyvips.Image.new_from_array(straight, interpretation="srgb").premultiply()
    return np.rint(image.numpy())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 0), ("WEBP", 0), ("JPEG", JPEG_TOLERANCE)])
def test_orientation(orientation: int, kind: str, tolerance: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = saved(Image.fromarray(smooth(24, 40)), kind, exif=exif, **options)
    upright = pyvips.Image.new_from_buffer(data, "").autorot().numpy()
    assert upright.shape[:2] == ((40, 24) if orientation >= 5 else (24, 40))
    assert differs(decode_image(data), upright) <= tolerance


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize(
    ("interpretation", "channels"), [("grey16", 1), ("grey16", 2), ("rgb16", 3), ("rgb16", 4)]
)
def test_16_bits(interpretation: str, channels: int, interlace: bool) -> None:
    deep = noise(13, 9, channels, deep=True)
    image = pyvips.Image.new_from_array(deep, interpretation=interpretation)
    data = image.write_to_buffer(".png", interlace=interlace)
    np.testing.assert_array_equal(vips(data), deep)
    assert data[24] == 16
    levels = np.rint(deep / 257)
    grey, alpha = levels[..., :1], levels[..., -1:]
    expected = {
        1: np.tile(grey, 3),
        2: np.dstack([np.rint(np.tile(grey, 3) * alpha / 255), alpha]),
        3: levels,
        4: np.dstack([np.rint(levels[..., :3] * alpha / 255), alpha]),
    }[channels]
    source = decode_image(data)
    assert source.bit_depth == 16
    assert differs(source, expected) == 0


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha(kind: str) -> None:
    rgba = noise(21, 34, 4)
    rgba[:, :3, 3], rgba[:, -3:, 3] = 0, 255
    data = saved(Image.fromarray(rgba), kind, lossless=True, exact=True)
    np.testing.assert_array_equal(vips(data), rgba)
    assert differs(decode_image(data), premultiplied(rgba)) == 0


def chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


@pytest.mark.parametrize(
    ("depth", "colour", "transparent"),
    [
        (1, 0, (1,)),
        (2, 0, (2,)),
        (4, 0, (9,)),
        (8, 0, (77,)),
        (16, 0, (40_000,)),
        (8, 2, (1, 2, 3)),
        (16, 2, (1000, 2000, 40_000)),
        (8, 3, None),
        (2, 3, None),
    ],
)
def test_a_transparent_colour(depth: int, colour: int, transparent: tuple[int, ...] | None) -> None:
    rng = np.random.default_rng(3)
    width, height = 16, 12
    pixel = struct.pack(f">{len(transparent)}H", *transparent) if transparent else b""
    if depth == 8 and transparent:
        pixel = bytes(transparent)
    rows = b""
    for _ in range(height):
        row = rng.bytes(width * depth * (3 if colour == 2 else 1) // 8)
        # The colour itself, and one that differs from it in its last bits.
        rows += b"\0" + (pixel + pixel[:-1] + b"\xf1" + row)[: len(row)]
    parts = [chunk(b"PLTE", rng.bytes(3 << depth))] if colour == 3 else []
    key = struct.pack(f">{len(transparent)}H", *transparent) if transparent else bytes([9, 0, 200])
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
            *parts,
            chunk(b"tRNS", key),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )
    straight = vips(data)
    if depth == 16:
        straight = np.rint(straight / 257).astype(np.uint8)
    if straight.shape[2] == 2:
        straight = straight[..., [0, 0, 0, 1]]
    assert straight.shape[2] == 4 and 0 < (straight[..., 3] < 255).mean() < 1
    assert differs(decode_image(data), premultiplied(np.ascontiguousarray(straight))) == 0


def test_cmyk_of_photoshop() -> None:
    # Written by libvips, with Adobe's marker and therefore inverted; no profile is embedded.
    cmyk = 255 - np.dstack([smooth(32, 48), smooth(32, 48)[..., :1] // 2])
    image = pyvips.Image.new_from_array(cmyk, interpretation="cmyk")
    data = image.write_to_buffer(".jpg", Q=97, subsample_mode="off")
    ink = vips(data).astype(float)
    assert ink.shape[2] == 4 and np.abs(ink - cmyk).max() < 12
    expected = np.rint((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255)
    assert differs(decode_image(data), expected) <= JPEG_TOLERANCE


def test_cmyk_with_a_printers_profile() -> None:
    cmyk = 255 - np.dstack([smooth(32, 48), smooth(32, 48)[..., :1] // 2])
    image = pyvips.Image.new_from_array(cmyk, interpretation="cmyk").copy()
    profile = bytes(pyvips.Image.profile_load("cmyk"))
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    data = image.write_to_buffer(".jpg", Q=97, subsample_mode="off")
    opened = pyvips.Image.new_from_buffer(data, "")
    expected = opened.icc_transform("srgb", embedded=True, intent="perceptual").numpy()
    plain = (255.0 - opened.numpy()[..., :3]) * (255 - opened.numpy()[..., 3:]) / 255
    assert np.abs(expected - plain).max() > 20, "the profile says more than the plain formula"
    assert differs(decode_image(data), expected) <= JPEG_TOLERANCE + PROFILE_TOLERANCE


# Chromaticities of red, green, blue and white (D65), and the exponent of the transfer curve.
SPACES = {
    "Adobe RGB": ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), 563 / 256),
    "Display P3, gamma 2.2": ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), 2.2),
    "linear sRGB": ((0.64, 0.33), (0.3, 0.6), (0.15, 0.06), 1.0),
}
D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def white(x: float, y: float) -> np.ndarray:
    return np.array([x / y, 1, (1 - x - y) / y])


def to_d50(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The matrix from linear RGB to XYZ about D50 (ICC.1:2010, annexes E and F)."""
    columns = np.array([[x, y, 1 - x - y] for x, y in primaries]).T
    matrix = columns * np.linalg.solve(columns, white(*D65))
    cones = np.diag((BRADFORD @ white(*D50)) / (BRADFORD @ white(*D65)))
    return np.linalg.inv(BRADFORD) @ cones @ BRADFORD @ matrix


def matrix_profile(matrix: np.ndarray, gamma: float) -> bytes:
    """An ICC profile, version 2, of three primaries and one exponent."""

    def xyz(v: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * c) for c in v))

    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma)) + b"\0\0"
    tags = [(b"desc", text + b"\0" * (-len(text) % 4)), (b"cprt", b"text\0\0\0\0none"),
            (b"wtpt", xyz(white(*D50)))]  # fmt: skip
    tags += [(name + b"XYZ", xyz(matrix[:, i])) for i, name in enumerate((b"r", b"g", b"b"))]
    tags += [(name + b"TRC", curve) for name in (b"r", b"g", b"b")]
    at, table, body = 132 + 12 * len(tags), b"", b""
    for name, value in tags:
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value
    d50 = struct.pack(">3i", *(round(65536 * c) for c in white(*D50)))
    header = struct.pack(">I4sI", at + len(body), b"none", 0x02100000) + b"mntrRGB XYZ "
    header += bytes(12) + b"acsp" + bytes(28) + d50 + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + body


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("with_alpha", [False, True])
def test_a_matrix_profile_in_closed_form(space: str, with_alpha: bool) -> None:
    *primaries, gamma = SPACES[space]
    matrix = to_d50(tuple(primaries))
    srgb = to_d50(((0.64, 0.33), (0.3, 0.6), (0.15, 0.06)))
    samples = noise(32, 32, 3)
    linear = (samples / 255) ** (round(256 * gamma) / 256)
    out = np.clip(linear @ (np.linalg.inv(srgb) @ matrix).T, 0, 1)
    encoded = np.where(out <= 0.0031308, 12.92 * out, 1.055 * out ** (1 / 2.4) - 0.055)
    expected = 255 * encoded
    alpha = noise(32, 32, seed=1)
    picture = np.dstack([samples, alpha]) if with_alpha else samples
    data = saved(Image.fromarray(picture), "PNG", icc_profile=matrix_profile(matrix, gamma))
    source = decode_image(data)
    if with_alpha:
        expected = np.dstack([expected * alpha[..., None] / 255, alpha])
    # One level for Little CMS at eight bits, half of one for the product's rounding.
    assert differs(source, expected) <= PROFILE_TOLERANCE + 0.5
    assert np.abs(expected[..., :3] - samples).max() > 20, "the profile does something"


def test_a_grey_profile() -> None:
    # Its curve is a square: a grey of 0.5 is a linear 0.25.
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(79)
    d50 = struct.pack(">3i", *(round(65536 * c) for c in white(*D50)))
    tags = [(b"desc", text), (b"wtpt", b"XYZ \0\0\0\0" + d50),
            (b"kTRC", b"curv\0\0\0\0" + struct.pack(">IHH", 1, 512, 0))]  # fmt: skip
    at, table, body = 132 + 12 * len(tags), b"", b""
    for name, value in tags:
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value
    header = struct.pack(">I4sI", at + len(body), b"none", 0x02100000) + b"mntrGRAYXYZ "
    header += bytes(12) + b"acsp" + bytes(28) + d50 + bytes(48)
    profile = header + struct.pack(">I", len(tags)) + table + body
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    source = decode_image(saved(Image.fromarray(grey), "PNG", icc_profile=profile))
    linear = (grey / 255) ** 2
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert differs(source, np.repeat(255 * encoded[..., None], 3, 2)) <= PROFILE_TOLERANCE + 0.5


def test_a_profile_through_libvips() -> None:
    profile = bytes(pyvips.Image.profile_load("p3"))
    data = saved(Image.fromarray(noise(24, 24, 3)), "PNG", icc_profile=profile)
    opened = pyvips.Image.new_from_buffer(data, "")
    expected = opened.icc_transform("srgb", embedded=True, intent="perceptual").numpy()
    assert differs(decode_image(data), expected) <= PROFILE_TOLERANCE


@pytest.mark.parametrize("kind", ["png", "webp"])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_what_is_written_reads_the_same_elsewhere(kind: str, with_alpha: bool) -> None:
    alpha = noise(19, 23, seed=1)
    image = np.minimum(noise(19, 23, 3), alpha[..., None] if with_alpha else 255)
    read = vips(encode_image(image, kind, alpha=alpha if with_alpha else None))
    np.testing.assert_array_equal(premultiplied(read)[..., :3] if with_alpha else read, image)
    if with_alpha:
        np.testing.assert_array_equal(read[..., 3], alpha)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_what_is_written_is_tagged(kind: str) -> None:
    image = pyvips.Image.new_from_buffer(encode_image(noise(8, 8, 3), kind), "")
    profile = ImageCms.ImageCmsProfile(io.BytesIO(image.get("icc-profile-data")))
    assert "sRGB" in ImageCms.getProfileDescription(profile)
