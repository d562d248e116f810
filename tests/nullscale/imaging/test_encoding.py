"""What is written, and how its round trip is measured."""

import io

import numpy as np
import pytest
from PIL import Image

from nullscale.imaging.encoding import encode_image, measure_consistency
from nullscale.imaging.image_io import SourceImage, decode_image


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def opaque(samples: np.ndarray) -> SourceImage:
    return SourceImage(samples=samples, alpha=None, exif=None, xmp=None, bit_depth=8)


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_lossless_answers_hold_every_sample(kind: str) -> None:
    picture = noise(31, 17)
    encoded = encode_image(picture, kind)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded))), picture)
    np.testing.assert_array_equal(decode_image(encoded).samples, picture)


def test_png_says_that_it_is_srgb() -> None:
    assert b"sRGB" in encode_image(noise(2, 2))


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_quality_is_read(kind: str) -> None:
    picture = noise(64, 64)
    assert len(encode_image(picture, kind, 20)) < len(encode_image(picture, kind, 90))
    assert len(encode_image(picture, kind, 90)) < len(encode_image(picture, kind))


def test_consistency_of_an_exact_answer() -> None:
    answer = noise(40, 24)
    small = np.asarray(Image.fromarray(answer).resize((6, 10), Image.Resampling.BICUBIC))
    measured = measure_consistency(encode_image(answer), opaque(small), reachable=True)
    assert measured.exact and measured.exact_share == 1 and measured.psnr_db is None


def test_consistency_counts_and_measures_what_is_off() -> None:
    answer = noise(40, 24)
    small = np.array(Image.fromarray(answer).resize((6, 10), Image.Resampling.BICUBIC))
    small[0, 0, 0] += 3 if small[0, 0, 0] < 128 else -3
    measured = measure_consistency(encode_image(answer), opaque(small), reachable=False)
    assert not measured.exact and not measured.reachable
    assert measured.exact_share == pytest.approx(1 - 1 / 180)
    assert measured.psnr_db == pytest.approx(10 * np.log10(255**2 * 180 / 9))


def test_consistency_is_that_of_the_encoded_file() -> None:
    answer = noise(40, 24)
    small = np.asarray(Image.fromarray(answer).resize((6, 10), Image.Resampling.BICUBIC))
    coarse = measure_consistency(encode_image(answer, "jpeg", 10), opaque(small), reachable=True)
    fine = measure_consistency(encode_image(answer, "jpeg", 100), opaque(small), reachable=True)
    assert coarse.psnr_db is not None
    assert not coarse.exact
    assert fine.psnr_db is None or fine.psnr_db > coarse.psnr_db
