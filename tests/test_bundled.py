"""The model in the package: it loads, it is consistent, and it is better than bicubic."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nullscale.networks.loading import load_model
from sr_engine.engine import SREngine

PHOTO = Path(__file__).parents[1] / "examples" / "coffee.png"


@pytest.fixture(scope="module")
def engine() -> SREngine:
    return SREngine(load_model("bundled"))


def psnr_y(image: np.ndarray, truth: np.ndarray) -> float:
    weights = np.array([65.481, 128.553, 24.966]) / 255
    error = ((image.astype(float) - truth) @ weights)[4:-4, 4:-4]
    return float(10 * np.log10(255**2 / np.mean(error**2)))


@pytest.mark.parametrize("box", [(128, 64, 320, 256), (0, 0, 600, 400)], ids=["part", "whole"])
def test_it_beats_bicubic_and_gives_the_input_back(
    engine: SREngine, box: tuple[int, int, int, int]
) -> None:
    """The whole picture takes many tiles, whose networks must agree with each other."""
    with Image.open(PHOTO) as photo:
        truth = photo.convert("RGB").crop(box)
    size = truth.width // 4, truth.height // 4
    small = truth.resize(size, Image.Resampling.BICUBIC)
    params = engine.model.defaults.override({"scale": 4, "seed": 1})
    result = engine.upscale(np.asarray(small), params)
    given_back = Image.fromarray(result.image).resize(size, Image.Resampling.BICUBIC)
    assert np.array_equal(given_back, small)
    bicubic = small.resize(truth.size, Image.Resampling.BICUBIC)
    ours, theirs = (psnr_y(np.asarray(i), np.asarray(truth)) for i in (result.image, bicubic))
    assert ours > theirs + 0.5


def test_all_but_flat_colours_stay_flat(engine: SREngine) -> None:
    flat = np.full((24, 24, 3), (200, 120, 40), np.uint8)
    # One that is all flat meets no network.
    flat[12, 12] += 1
    result = engine.upscale(flat, engine.model.defaults.override({"scale": 4, "seed": 1}))
    error = np.abs(result.image.astype(int) - flat[0, 0])
    assert error.mean() <= 1
    # The autoencoder pads with zeros: the corners are its weakest place.
    assert error[4:-4, 4:-4].max() <= 8
