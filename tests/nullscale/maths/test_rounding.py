"""Pillow itself gives the input back from the rounded image, wherever that can be done."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.optimize import minimize
from skimage import data
from torch import Tensor

from nullscale.maths import rounding
from nullscale.maths.operators import BicubicDownscale
from nullscale.maths.pillow_resize import pillow_downscale
from nullscale.maths.rounding import RoundedImage, round_consistently, round_plainly

# Photographs that ship inside scikit-image: dark, bright and mid-range, each with hard edges.
PHOTOS = {
    "astronaut": (data.astronaut, (40, 150)),
    "coffee": (data.coffee, (60, 200)),
    "chelsea": (data.chelsea, (60, 90)),
}


def pillow_itself(image: Tensor, size: tuple[int, int]) -> Tensor:
    planes = [
        np.array(Image.fromarray(p).resize(size[::-1], Image.Resampling.BICUBIC))
        for p in image.contiguous().numpy()
    ]
    return torch.from_numpy(np.stack(planes))


def photo(name: str, height: int = 192, width: int = 192) -> Tensor:
    load, (top, left) = PHOTOS[name]
    pixels: NDArray[np.uint8] = load()[top : top + height, left : left + width]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def generated(operator: BicubicDownscale, y: Tensor, detail: float) -> Tensor:
    """`A†y` with invented null-space detail, clipped, as a generative model's picture is."""
    x = operator.pinv(y.float() / 255)
    noise = detail * torch.randn(x.shape, generator=torch.Generator().manual_seed(7))
    return (x + noise - operator.pinv(operator.A(noise))).clamp(0, 1)


def rounded(y: Tensor, scale: float, detail: float = 0.05) -> RoundedImage:
    """Round a generated picture; its own account of itself must be Pillow's."""
    operator = BicubicDownscale((y.shape[1], y.shape[2]), scale)
    result = round_consistently(generated(operator, y, detail), y, operator)
    assert result.image.shape == (len(y), *operator.image_size)
    back = pillow_itself(result.image, operator.measurement_size)
    assert result.consistency.exact_share == pytest.approx(float((back == y).float().mean()))
    assert result.consistency.exact == torch.equal(back, y)
    if result.consistency.psnr_db is not None:
        assert result.consistency.psnr_db == pytest.approx(psnr(back.numpy(), y.numpy()))
    else:
        assert result.consistency.exact
    return result


def psnr(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


@pytest.mark.parametrize("seed", range(40))
def test_emulates_pillow_bit_for_bit(seed: int) -> None:
    draw = np.random.default_rng(seed)
    h, w = (int(n) for n in draw.integers(1, 60, 2))
    size = int(h * draw.uniform(1, 9)), int(w * draw.uniform(1, 9))
    levels = 2 if seed % 3 == 0 else 256
    pixels = draw.integers(0, levels, (2, *size)) * (255 // (levels - 1))
    image = torch.from_numpy(pixels.astype(np.uint8))
    assert torch.equal(pillow_downscale(image, (h, w)), pillow_itself(image, (h, w)))


@pytest.mark.parametrize(
    ("size", "small"),
    [((119, 46), (51, 39)), ((35, 16), (7, 3)), ((64, 80), (64, 20)), ((80, 64), (20, 64)),
     ((50, 50), (50, 50)), ((300, 5), (30, 5)), ((4, 4), (1, 1)), ((100, 40), (25, 10))],
)  # fmt: skip
def test_emulates_either_order_of_the_passes(size: tuple[int, int], small: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    assert torch.equal(pillow_downscale(image, small), pillow_itself(image, small))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("name", PHOTOS)
def test_every_sample_of_a_photo_comes_back(name: str, scale: int) -> None:
    y = pillow_itself(photo(name), (192 // scale, 192 // scale))
    result = rounded(y, scale)
    assert result.consistency.exact
    assert result.consistency.reachable
    assert result.consistency.psnr_db is None


@pytest.mark.parametrize("scale", [1.5, 2.7])
@pytest.mark.parametrize("name", PHOTOS)
def test_nearly_every_sample_comes_back_at_odd_ratios(name: str, scale: float) -> None:
    y = pillow_itself(photo(name), (97, 61))
    assert rounded(y, scale).consistency.exact_share >= 0.999


@pytest.mark.parametrize("size", [(97, 61), (150, 12), (12, 150), (7, 40), (1, 1), (1, 40)])
@pytest.mark.parametrize("scale", [2, 4])
def test_awkward_sizes(size: tuple[int, int], scale: int) -> None:
    y = pillow_itself(photo("chelsea"), size)
    assert rounded(y, scale).consistency.exact


@pytest.mark.parametrize("value", [0, 1, 128, 254, 255])
def test_flat_images_stay_flat_enough(value: int) -> None:
    y = torch.full((3, 9, 7), value, dtype=torch.uint8)
    assert rounded(y, 4).consistency.exact


def test_moves_pixels_by_less_than_a_level() -> None:
    y = pillow_itself(photo("chelsea"), (48, 48))
    operator = BicubicDownscale((48, 48), 4)
    x = generated(operator, y, 0.0)
    result = round_consistently(x, y, operator)
    assert float((result.image - 255 * x).abs().mean()) < 0.5


@pytest.mark.parametrize(("size", "scale"), [((20, 30), 1.0), ((3, 4), 1.1)])
def test_same_size_gives_the_input_itself(size: tuple[int, int], scale: float) -> None:
    y = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    operator = BicubicDownscale(size, scale)
    result = round_consistently(torch.rand(3, *size), y, operator)
    assert torch.equal(result.image, y)
    assert result.consistency.exact


def test_a_limit_on_the_rounds_is_kept() -> None:
    y = pillow_itself(photo("astronaut"), (96, 96))
    operator = BicubicDownscale((96, 96), 2)
    result = round_consistently(generated(operator, y, 0.1), y, operator, max_rounds=5)
    assert result.rounds == 5
    assert not result.consistency.exact


@pytest.mark.parametrize("top", [255, 180])
def test_few_rounds_leave_a_picture_in_range_and_near(top: int) -> None:
    y = pillow_itself(photo("astronaut"), (96, 96)).clamp(max=top)
    operator = BicubicDownscale((96, 96), 2)
    x = operator.pinv(y.float() / 255)
    assert x.min() < 0 and x.max() > top / 255
    ceiling = torch.full(operator.image_size, top, dtype=torch.uint8)
    clipped = pillow_itself((255 * x).round().clamp(0, top).to(torch.uint8), (96, 96))
    for max_rounds in (1, 3, 10):
        result = round_consistently(x, y, operator, ceiling=ceiling, max_rounds=max_rounds)
        assert result.image.max() <= top
        assert result.consistency.psnr_db is not None
        assert result.consistency.psnr_db > psnr(clipped.numpy(), y.numpy()) + 1


def test_plain_rounding_only_rounds() -> None:
    y = pillow_itself(photo("coffee"), (48, 48))
    operator = BicubicDownscale((48, 48), 4)
    x = torch.rand(3, 192, 192, generator=torch.Generator().manual_seed(2)) * 1.2 - 0.1
    result = round_plainly(x, y, operator)
    assert torch.equal(result.image, (255 * x.clamp(0, 1)).round().to(torch.uint8))
    assert not result.consistency.exact
    back = pillow_itself(result.image, (48, 48))
    assert result.consistency.psnr_db == pytest.approx(psnr(back.numpy(), y.numpy()))


def checkerboard(side: int) -> NDArray[np.uint8]:
    return (255 * (np.indices((side, side)).sum(0) % 2)).astype(np.uint8)


def text(side: int) -> NDArray[np.uint8]:
    image = Image.new("1", (side, side), 1)
    ImageDraw.Draw(image).text((1, 1), "Hello\ngypq\n0123", fill=0)
    return np.array(image.convert("L"))


def noise(side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (side, side)).astype(np.uint8)


def hard_noise(side: int) -> NDArray[np.uint8]:
    return (255 * np.random.default_rng(4).integers(0, 2, (side, side))).astype(np.uint8)


def least_squares_bound(y: NDArray[np.uint8], scale: int, *, clips: bool) -> float:
    """PSNR in dB of the best real image in [0, 255] under the linear operator, `D` from Pillow.

    `clips`: the values between the two passes are clipped, as Pillow's 8 bits are. That is no
    longer linear, and can only be left out where the bound stays within reach without it.
    """
    n = len(y)
    columns = Image.fromarray(np.eye(n * scale, dtype=np.float32))
    d = np.array(columns.resize((n * scale, n), Image.Resampling.BICUBIC)).astype(float)

    def squared_error(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        first = x.reshape(n * scale, -1) @ d.T
        kept = ((first >= 0) & (first <= 1)) | (not clips)
        error = d @ np.where(kept, first, first.clip(0, 1)) - y / 255
        return float((error**2).sum()), (2 * (kept * (d.T @ error)) @ d).ravel()

    start = np.full((n * scale) ** 2, 0.5)
    box = np.stack([np.zeros_like(start), np.ones_like(start)], 1)
    options = {"maxiter": 500, "maxfun": 1000, "ftol": 1e-9}
    solved = minimize(squared_error, start, jac=True, bounds=box, options=options)
    return float(10 * math.log10(y.size / solved.fun))


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize(
    ("make", "clips"), [(checkerboard, False), (text, False), (hard_noise, False), (noise, True)]
)
def test_out_of_reach_comes_near_the_least_squares_bound(
    make: Callable[[int], NDArray[np.uint8]], clips: bool, scale: int
) -> None:
    y = make(24)
    result = rounded(torch.from_numpy(y)[None], scale)
    assert not result.consistency.exact
    assert not result.consistency.reachable
    assert result.consistency.psnr_db is not None
    assert result.consistency.psnr_db >= least_squares_bound(y, scale, clips=clips) - 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_rounds_on_cuda() -> None:
    y = pillow_itself(photo("chelsea"), (48, 48))
    operator = BicubicDownscale((48, 48), 4)
    result = round_consistently(generated(operator, y, 0.05).cuda(), y.cuda(), operator)
    assert torch.equal(pillow_itself(result.image.cpu(), (48, 48)), y)


def test_what_cannot_come_back_is_given_up_early() -> None:
    y = torch.randint(0, 256, (1, 24, 24), generator=torch.Generator().manual_seed(0))
    y = y.to(torch.uint8)
    operator = BicubicDownscale((24, 24), 4)
    x = operator.pinv(y.float() / 255).clamp(0, 1)
    patient, hasty = (round_consistently(x, y, operator, patience=p) for p in (200, 12))
    assert not patient.consistency.reachable and not hasty.consistency.reachable
    assert hasty.rounds < patient.rounds / 2
    assert hasty.consistency.psnr_db is not None and patient.consistency.psnr_db is not None
    assert hasty.consistency.psnr_db > patient.consistency.psnr_db - 5


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_fit_that_leads_nowhere_ends(scale: float) -> None:
    y = 255 * torch.from_numpy(np.indices((32, 32)).sum(0) % 2)[None].to(torch.uint8)
    operator = BicubicDownscale((32, 32), scale)
    result = round_consistently(operator.pinv(y.float() / 255).clamp(0, 1), y, operator)
    assert not result.consistency.reachable
    assert result.rounds < 40


def test_a_fit_that_stalls_within_a_level_is_not_given_up() -> None:
    generator = torch.Generator().manual_seed(890)
    blocks = 255 * torch.randint(2, (1, 11, 9), generator=generator).to(torch.uint8)
    there = blocks.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :42, :34]
    y = pillow_downscale(there, (21, 17))
    grey = torch.full(there.shape, 0.5)
    assert round_consistently(grey, y, BicubicDownscale((21, 17), 2)).consistency.exact


def test_where_an_easy_fit_leaves_a_sample_wrong_a_nearer_one_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures = [photo(name, side, side) for name in PHOTOS for side in (128, 160)]
    nearer = [rounded(y, 1.5) for y in pictures]
    monkeypatch.setattr(rounding, "_FIT_GOALS", rounding._FIT_GOALS[:1])
    easy = [rounded(y, 1.5) for y in pictures]
    again = [(a, b) for a, b in zip(nearer, easy, strict=True) if a.rounds > b.rounds]
    assert again and not any(b.consistency.exact for _, b in again)
    for a, b in zip(nearer, easy, strict=True):
        assert a.consistency.exact_share >= b.consistency.exact_share


@pytest.mark.parametrize("scale", [1.5, 2, 4])
def test_patience_changes_nothing_that_comes_back(scale: float) -> None:
    y = photo("coffee", 40, 40) // 2 + 64
    operator = BicubicDownscale((40, 40), scale)
    x = generated(operator, y, 0.05)
    patient, hasty = (round_consistently(x, y, operator, patience=p) for p in (200, 12))
    assert patient.consistency.exact and torch.equal(patient.image, hasty.image)
