"""What allowance is made for a noisy measurement."""

import pytest
import torch
from dense_operator import DenseOperator
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_engine.correction import Measurement, tolerate_noise
from sr_engine.network_calls import Encode
from sr_engine.operators import Canvas
from sr_engine.request import UpscaleParams

untimed = settings(deadline=None)
levels = st.floats(0.001, 1)
kappas = st.floats(0, 10)


@untimed
@given(kappas, levels)
def test_the_noise_of_the_measurement_and_that_which_is_added_make_the_level(
    kappa: float, sigma: float
) -> None:
    weight, kept = tolerate_noise(torch.tensor(kappa, dtype=torch.float64), sigma)
    carried = (1 - sigma) * kappa * float(weight)
    assert carried**2 + (sigma * float(kept)) ** 2 == pytest.approx(sigma**2, rel=1e-9)
    assert 0 < float(weight) <= 1
    # It is believed whole wherever the level has room for its noise.
    assert (float(weight) == 1) == ((1 - sigma) * kappa / sigma <= 1)


@untimed
@given(levels)
def test_without_noise_nothing_is_held_back(sigma: float) -> None:
    assert tolerate_noise(None, sigma) == (1, 1)
    weight, kept = tolerate_noise(torch.zeros(()), sigma)
    assert (float(weight), float(kept)) == (1, 1)


def test_kappa_is_what_the_noise_does_to_the_latents_of_each_row() -> None:
    matrix = torch.randn(6, 24, generator=torch.Generator().manual_seed(0)).numpy()
    operator = DenseOperator(matrix, (4, 6), (2, 3))
    y = torch.zeros(2, 1, 2, 3, dtype=torch.float64)
    params = UpscaleParams(sigma_y=0.1)
    measured = Measurement(operator, Canvas((4, 6), 2), operator.pinv(y), params)
    probe = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).double()
    sampler = measured.noise_in_latents(probe)
    clean, noisy = next(sampler)
    assert isinstance(clean, Encode) and isinstance(noisy, Encode)
    # An autoencoder of factor 1 that doubles contrast and adds brightness.
    with pytest.raises(StopIteration) as end:
        sampler.send((2 * clean.pixels + 1, 2 * noisy.pixels + 1))
    known = 2 * 0.1 * operator.pinv(probe).flatten(1).std(1, correction=0)
    torch.testing.assert_close(end.value.value.flatten(), known)
