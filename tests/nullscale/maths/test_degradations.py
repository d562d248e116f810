"""The Penrose conditions, other people's blurs, and what the composition with a downscale keeps."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from nullscale.maths.blur import Blurred
from nullscale.maths.degradations import Chain, Degradation, Degraded, Grey
from nullscale.maths.inpainting import Masked
from nullscale.maths.nearby import round_nearby
from nullscale.maths.operators import BicubicDownscale, LinearOperator

HEIGHT, WIDTH = 13, 18
few = settings(deadline=None, max_examples=20)


def random(*size: int, seed: int = 0) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_known(seed: int = 0) -> Masked:
    return Masked(random(HEIGHT, WIDTH, seed=seed) > 0.4)


DEGRADATIONS: dict[str, Degradation] = {
    "grey": Grey(),
    "masked": some_known(),
    "slightly_blurred": Blurred.gaussian(0.5),
    "blurred": Blurred.gaussian(1.6),
    "unevenly_blurred": Blurred.gaussian(2.0, 0.7),
    "averaged": Blurred.uniform(5),
    "old_photo": Chain((Grey(), some_known(1))),
    "grey_and_blurred": Chain((Blurred.gaussian(1.0), Grey())),
}
each = pytest.mark.parametrize("name", DEGRADATIONS)


@each
@few
@given(seed=st.integers(0, 1000))
def test_penrose_conditions(name: str, seed: int) -> None:
    degradation = DEGRADATIONS[name]
    x, other_x = random(3, HEIGHT, WIDTH, seed=seed), random(3, HEIGHT, WIDTH, seed=seed + 1)
    y = degradation.A(x)
    other_y = random(*y.shape, seed=seed + 2)
    some_y = random(*y.shape, seed=seed + 3)
    filled = degradation.pinv(some_y)
    torch.testing.assert_close(degradation.A(degradation.pinv(y)), y, atol=1e-10, rtol=0)
    torch.testing.assert_close(degradation.pinv(degradation.A(filled)), filled, atol=1e-10, rtol=0)
    # A†A and AA† are symmetric.
    assert math.isclose(
        float((other_x * degradation.pinv(y)).sum()),
        float((degradation.pinv(degradation.A(other_x)) * x).sum()),
        abs_tol=1e-9,
    )
    assert math.isclose(
        float((other_y * degradation.A(degradation.pinv(some_y))).sum()),
        float((degradation.A(degradation.pinv(other_y)) * some_y).sum()),
        abs_tol=1e-9,
    )


@pytest.mark.parametrize("side", [3, 5])
def test_an_average_is_scipys_but_for_what_is_lost(side: int) -> None:
    x, blur = random(HEIGHT, WIDTH), Blurred.uniform(side)
    theirs = torch.from_numpy(ndimage.uniform_filter(x.numpy(), side, mode="reflect"))
    kept = blur.A(blur.pinv(theirs))
    torch.testing.assert_close(blur.A(x), kept, atol=1e-10, rtol=0)
    assert float((theirs - kept).abs().max()) < 0.1


@pytest.mark.parametrize("deviations", [(0.6, 0.6), (1.5, 0.5), (2.0, 2.0)])
def test_a_gaussian_is_scipys_but_for_what_is_lost(deviations: tuple[float, float]) -> None:
    x, blur = random(HEIGHT, WIDTH), Blurred.gaussian(*deviations)
    reach = tuple(math.ceil(4 * deviation) for deviation in deviations)
    theirs = torch.from_numpy(
        ndimage.gaussian_filter(x.numpy(), deviations, mode="reflect", radius=reach)
    )
    kept = blur.A(blur.pinv(theirs))
    torch.testing.assert_close(blur.A(x), kept, atol=1e-10, rtol=0)
    assert float((theirs - kept).abs().max()) < 0.1


def test_no_blur_changes_nothing() -> None:
    x = random(3, HEIGHT, WIDTH)
    torch.testing.assert_close(Blurred.gaussian(0).A(x), x)
    torch.testing.assert_close(Blurred.gaussian(0).pinv(x), x)


def test_the_inverse_does_not_raise_noise_by_more_than_it_says() -> None:
    noise, blur = torch.randn(64, 64, dtype=torch.float64), Blurred.gaussian(1.2)
    assert float(blur.pinv(noise).std()) < 100 * float(noise.std())
    assert float(Blurred.gaussian(1.2, 0).pinv(noise).std()) < 10 * float(noise.std())


@each
@pytest.mark.parametrize("scale", [1.0, 2.0, 2.7])
def test_after_a_downscale_measurements_still_come_back(name: str, scale: float) -> None:
    degradation = DEGRADATIONS[name]
    operator = Degraded(BicubicDownscale((HEIGHT, WIDTH), scale), degradation)
    assert isinstance(operator, LinearOperator)
    x = random(3, *operator.image_size)
    y = operator.A(x)
    torch.testing.assert_close(operator.A(operator.pinv(y)), y, atol=1e-9, rtol=0)
    some_y = random(*y.shape, seed=1)
    torch.testing.assert_close(
        operator.A(operator.pinv(some_y)),
        degradation.A(degradation.pinv(some_y)),
        atol=1e-9,
        rtol=0,
    )
    assert operator.interpolate(y).shape == x.shape


@each
def test_what_is_filled_in_is_flat_where_all_is(name: str) -> None:
    flat = torch.full((3, HEIGHT, WIDTH), 0.3, dtype=torch.float64)
    degradation = DEGRADATIONS[name]
    torch.testing.assert_close(degradation.fill(degradation.A(flat)), flat, atol=1e-9, rtol=0)


@each
def test_a_degraded_picture_tells_what_was_measured(name: str) -> None:
    degradation = DEGRADATIONS[name]
    y = degradation.A(random(3, HEIGHT, WIDTH))
    torch.testing.assert_close(degradation.observe(degradation.fill(y)), y, atol=1e-10, rtol=0)


def test_the_share_that_comes_back_is_of_what_is_known() -> None:
    """A tenth is known, half of it wrong by more than rounding."""
    known = torch.zeros(10, 20, dtype=torch.bool)
    known[0] = True
    operator = Degraded(BicubicDownscale((10, 20), 1), Masked(known))
    x = torch.full((3, 10, 20), 128 / 255)
    y = operator.A(x)
    y[:, :, :10] += 0.1 * known[:, :10]
    found = round_nearby(x, y, operator, pin=False)
    assert found.consistency.exact_share == 0.5 and not found.consistency.exact
    # Of 0.1 in half of what is known.
    assert found.consistency.psnr_db == pytest.approx(10 * math.log10(2 / 0.1**2), abs=0.1)


def test_lost_pixels_are_filled_from_around_them() -> None:
    ramp = torch.linspace(0, 1, 40, dtype=torch.float64).expand(3, 30, 40)
    known = torch.ones(30, 40, dtype=torch.bool)
    known[8:22, 12:26] = False
    filled = Masked(known).fill(Masked(known).A(ramp))
    np.testing.assert_array_equal(filled[:, known], ramp[:, known])
    assert float((filled - ramp).abs().max()) < 0.25
    single = torch.zeros(30, 40, dtype=torch.bool)
    single[29, 39] = True
    assert float((Masked(single).fill(Masked(single).A(ramp)) - 1).abs().max()) < 1e-9


def test_blur_and_lost_pixels_are_no_chain() -> None:
    for parts in ((Blurred.gaussian(1), some_known()), (Grey(), Grey())):
        with pytest.raises(AssertionError):
            Chain(parts)
