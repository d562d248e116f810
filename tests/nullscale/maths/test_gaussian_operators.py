"""The sampler's exact result for every operator, each built a second time by other code."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from gaussian_ddnm import recursion
from gaussian_operators import operator_cases
from gaussian_sampling import assert_same, extract, settings_of

CASES = operator_cases()
# Pillow computes in float32.
TOLERANCE = 2e-5


@pytest.mark.parametrize("name", CASES)
def test_operator_and_inverse_are_those_of_the_matrices(name: str) -> None:
    of = CASES[name]
    H, W = of.operator.image_size
    pictures = torch.eye(of.problem.A.shape[1], dtype=torch.float64).reshape(-1, 3, H, W)
    measured = torch.eye(len(of.problem.A), dtype=torch.float64).reshape(-1, *of.measurement_shape)
    A, pinv = of.operator.A(pictures).flatten(1).numpy().T, of.operator.pinv(measured)
    np.testing.assert_allclose(A, of.problem.A, atol=1e-6)
    np.testing.assert_allclose(pinv.flatten(1).numpy().T, of.problem.pinv, atol=TOLERANCE)


@pytest.mark.parametrize("projection", ["none", "latent", "pixel", "residual"])
@pytest.mark.parametrize("name", CASES)
def test_moments_are_those_of_the_recursion(name: str, projection: str) -> None:
    of = CASES[name]
    plain = settings_of(3, projection, 0.5, guidance_strength=0.9, start=0.6)
    *sigmas, last = plain.sigmas
    for settings in (
        plain,
        replace(plain, sigma_y=0.3, eta=0.0),
        replace(plain, ending="latents", rederive=True, sigmas=(*sigmas, *sigmas[1:], last)),
    ):
        assert_same(extract(of, settings), recursion(of.problem, settings), TOLERANCE)


def test_they_are_not_each_others() -> None:
    """No two cases of the same size have the same operator."""
    for (name, one), (other_name, other) in product(CASES.items(), repeat=2):
        if name < other_name and one.problem.A.shape == other.problem.A.shape:
            assert np.abs(one.problem.A - other.problem.A).max() > 0.01, (name, other_name)
