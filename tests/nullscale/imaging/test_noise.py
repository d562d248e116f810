"""Estimates of noise against noise that was put there."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nullscale.imaging.noise import jpeg_noise, noise_of, sensor_noise

PHOTO = Path(__file__).resolve().parents[3] / "examples" / "coffee.png"


def photo() -> np.ndarray:
    with Image.open(PHOTO) as opened:
        return np.asarray(opened.convert("RGB"))


def noisy(image: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(scale=255 * sigma, size=image.shape)
    return (image + noise).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.1])
def test_sensor_noise_of_a_grey_card(sigma: float) -> None:
    card = np.full((200, 301, 3), 128, np.uint8)
    assert sensor_noise(noisy(card, sigma)) == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize("sigma", [0.03, 0.1])
def test_sensor_noise_of_a_photo(sigma: float) -> None:
    assert sensor_noise(noisy(photo(), sigma)) == pytest.approx(sigma, rel=0.2)


@pytest.mark.parametrize("side", [(1, 1), (1, 9), (3, 3)])
def test_a_picture_of_few_pixels_has_an_answer(side: tuple[int, int]) -> None:
    image = np.full((*side, 3), 7, np.uint8)
    assert sensor_noise(image) == 0
    assert noise_of(encoded(image, 50), image) == 0


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90])
def test_what_jpeg_did_is_told_within_a_third(quality: int) -> None:
    data = encoded(photo(), quality)
    with Image.open(io.BytesIO(data)) as opened:
        change = np.asarray(opened, np.float64) - photo()
    assert jpeg_noise(data) == pytest.approx(np.sqrt(np.mean(change**2)) / 255, rel=1 / 3)


def test_lossless_files_have_no_noise_of_jpeg() -> None:
    data = io.BytesIO()
    Image.fromarray(photo()).save(data, "png")
    assert jpeg_noise(data.getvalue()) == 0


def encoded(image: np.ndarray, quality: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "jpeg", quality=quality)
    return data.getvalue()
