"""What the noise of a measurement does to latents."""

import pytest
import torch
from dense_operator import DenseOperator

from nullscale.maths.correction import Measurement
from nullscale.maths.network_calls import Encode
from nullscale.maths.operators import Canvas
from nullscale.maths.params import UpscaleParams


def test_kappa_is_that_of_the_row_with_most() -> None:
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
    known = 2 * 0.1 * operator.pinv(probe).flatten(1).square().mean(1).sqrt().max()
    torch.testing.assert_close(end.value.value, known)
