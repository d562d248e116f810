"""The closed form of DDNM against the plain loop that says the same in the paper's words."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from gaussian import Array, Moments
from gaussian_ddnm import Settings, recursion, simulate
from gaussian_sampling import Case, assert_same, case, extract

LEVELS = (0.9, 0.7, 0.5, 0.2)
WALKS = ((*LEVELS, 0), (1, 0.6, 0.6, 0), (*LEVELS, *LEVELS[1:], 0), (0.6, 0))


def by_hand(of: Case, settings: Settings, noises: Iterator[Array]) -> Array:
    return simulate(of.problem, settings, noises)


@pytest.mark.parametrize("projection", ["none", "latent", "pixel", "residual"])
@pytest.mark.parametrize("autoencoder", ["identity", "lossy"])
def test_recursion_has_the_moments_of_the_loop(autoencoder: str, projection: str) -> None:
    of = case(autoencoder, picture_size=(4, 5))
    variants = product(WALKS, ("pixels", "latents"), (0, 0.05, 0.5, 20), ((0, True), (0.85, False)))
    for sigmas, ending, sigma_y, (eta, rederive) in variants:
        settings = Settings(
            sigmas=sigmas,
            projection=projection,
            guidance_strength=0.9,
            eta=eta,
            rederive=rederive,
            ending=ending,
            sigma_y=sigma_y,
        )
        for one in (settings, replace(settings, projection_every=2, projection_above=0.3)):
            # Of float64: a loop of eight steps loses as many digits on some processors.
            assert_same(recursion(of.problem, one), extract(of, one, by_hand), tolerance=1e-7)


def test_several_measurements_are_rows() -> None:
    of = case("lossy")
    rows = np.random.default_rng(1).normal(size=(3, len(of.problem.y)))
    for projection in ("latent", "pixel", "residual"):
        settings = Settings(sigmas=(*LEVELS, 0), projection=projection, eta=0.5, sigma_y=0.1)
        together = recursion(replace(of.problem, y=rows), settings)
        for row, mean in zip(rows, together.mean, strict=True):
            alone = recursion(replace(of.problem, y=row), settings)
            assert_same(Moments(mean, together.covariance), alone)
