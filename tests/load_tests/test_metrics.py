"""Measures: the same picture is best, known pictures have known values."""

import os
from pathlib import Path

import metrics
import numpy as np
import pytest
from quality_figures import PUBLISHED_DB
from quality_pictures import enlarge, load_truths, shrink
from skimage import color, data
from skimage.metrics import peak_signal_noise_ratio

SETS = "NULLSCALE_TEST_SETS"
PHOTO = np.ascontiguousarray(data.coffee()[100:292, 200:392])
NOISY = (PHOTO + np.random.default_rng(0).normal(0, 12, PHOTO.shape)).clip(0, 255).astype(np.uint8)
GREY = np.repeat(PHOTO[..., :1], 3, axis=2)


def test_nothing_is_better_than_the_truth() -> None:
    assert metrics.psnr_y(PHOTO, PHOTO, 4) == float("inf")
    for measure in (metrics.ms_ssim_y, metrics.vif_y):
        assert measure(PHOTO, PHOTO) == pytest.approx(1)
        assert measure(NOISY, PHOTO) < 0.99
    assert metrics.ssim_y(PHOTO, PHOTO, 4) == pytest.approx(1)
    assert metrics.ssimulacra2(PHOTO, PHOTO) == pytest.approx(100)
    assert metrics.high_frequency_ratio(PHOTO, PHOTO, 4) == 1
    assert metrics.chroma_ratio(PHOTO, PHOTO, 4) == 1


def test_luma_and_chroma_are_those_of_the_standard() -> None:
    expected = color.rgb2ycbcr(PHOTO)
    np.testing.assert_allclose(metrics.luma(PHOTO), expected[..., 0], atol=1e-2)
    np.testing.assert_allclose(metrics.chroma(PHOTO), expected[..., 1:] - 128, atol=1e-2)


def test_psnr_is_that_of_scikit_image_within_the_border() -> None:
    framed = NOISY.copy()
    framed[:4] = framed[-4:] = framed[:, :4] = framed[:, -4:] = 0
    a, b = (metrics.luma(x)[4:-4, 4:-4] for x in (NOISY, PHOTO))
    expected = peak_signal_noise_ratio(b, a, data_range=255)
    assert metrics.psnr_y(framed, PHOTO, 4) == pytest.approx(expected)


def test_colour_is_told_from_grey() -> None:
    assert metrics.chroma_ratio(GREY, PHOTO, 4) == pytest.approx(0, abs=1e-12)
    assert metrics.chroma_ratio(PHOTO, GREY, 4) is None
    assert metrics.chroma_ratio(NOISY, PHOTO, 4) > 2
    assert metrics.saturation(GREY) == pytest.approx(0, abs=1e-2)
    blue = np.zeros((2, 2, 3), np.uint8)
    blue[..., 2] = 255
    assert metrics.saturation(blue) == pytest.approx(np.hypot(112, 18.214), rel=1e-4)


def test_clipped_samples_are_counted() -> None:
    image = np.full((4, 4, 3), 128, np.uint8)
    image[0] = [0, 255, 254]
    assert metrics.clipped_share(image) == 8 / 48


def test_high_frequencies_are_what_a_smaller_picture_does_not_hold() -> None:
    flat = np.full((32, 32, 3), 77, np.uint8)
    assert metrics.high_frequency_deviation(flat, 4) == 0
    assert metrics.high_frequency_ratio(PHOTO, flat, 4) is None
    board = np.tile(255 * np.eye(2, dtype=np.uint8), (16, 16))
    board = np.repeat(board[..., None], 3, axis=2)
    assert metrics.high_frequency_deviation(board, 4) == pytest.approx(0.5, abs=0.01)
    smooth = enlarge(shrink(PHOTO, 4), 4)
    assert metrics.high_frequency_ratio(smooth, PHOTO, 4) < 0.5
    assert metrics.high_frequency_deviation(smooth, 4) < metrics.high_frequency_deviation(PHOTO, 4)


def test_small_pictures_have_no_measure_that_needs_large_ones() -> None:
    small, noisy = PHOTO[:40, :40], NOISY[:40, :40]
    assert metrics.ms_ssim_y(noisy, small) is None
    assert metrics.vif_y(noisy, small) is None
    assert metrics.ms_ssim_y(NOISY[:175], PHOTO[:175]) is None


@pytest.mark.skipif(SETS not in os.environ, reason=f"${SETS} names no folder of set5 and set14")
@pytest.mark.parametrize(("name", "tolerance_db"), [("set5", 0.02), ("set14", 0.1)])
def test_bicubic_has_the_published_figures(name: str, tolerance_db: float) -> None:
    truths = [truth.pixels for truth in load_truths([Path(os.environ[SETS], name)], 4)]
    found = [metrics.psnr_y(enlarge(shrink(x, 4), 4), x, 4) for x in truths]
    assert np.mean(found) == pytest.approx(PUBLISHED_DB[name], abs=tolerance_db)
