"""The approach to the true posterior, which is known where the latents are the picture."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from gaussian import Array, Moments, posterior, wasserstein
from gaussian_ddnm import recursion
from gaussian_sampling import Case, assert_same, case, extract, random_covariance, settings_of

LOSSLESS = case("identity")


def null_space(of: Case) -> Array:
    """Return the orthogonal projection on what the measurement does not see."""
    return np.eye(of.problem.A.shape[1]) - np.linalg.pinv(of.problem.A) @ of.problem.A


def case_with(covariance: Array) -> Case:
    """A case with a lossless autoencoder, whose latents have this covariance."""
    mean = 0.5 * np.random.default_rng(8).normal(size=len(covariance))
    return case("identity", prior=Moments(mean, covariance))


def uncorrelated() -> Array:
    """A covariance under which what the measurement sees says nothing on what it does not."""
    null = null_space(LOSSLESS)
    seen, rng = np.eye(len(null)) - null, np.random.default_rng(9)
    return sum(p @ random_covariance(rng, len(null)) @ p for p in (seen, null))


@pytest.mark.parametrize(
    ("covariance", "at_the_end"),
    [
        (np.eye(24), 0.005),
        (uncorrelated(), 0.005),
        (LOSSLESS.problem.prior.covariance, 0.15),
    ],
    ids=["isotropic", "uncorrelated", "correlated"],
)
def test_many_steps_without_fresh_noise_approach_the_posterior(
    covariance: Array, at_the_end: float
) -> None:
    of = case_with(covariance)
    distances = [
        wasserstein(recursion(of.problem, settings_of(steps, "pixel", 0.0)), posterior(of.problem))
        for steps in (8, 28, 200, 2000)
    ]
    assert all(later < distance / 2 for distance, later in pairwise(distances)), distances
    assert distances[-1] < at_the_end


def test_the_sampler_itself_follows_the_recursion_to_the_posterior() -> None:
    of, settings = case_with(uncorrelated()), settings_of(200, "pixel", 0.0)
    found = extract(of, settings)
    assert_same(found, recursion(of.problem, settings))
    assert wasserstein(found, posterior(of.problem)) < 0.05


@pytest.mark.parametrize(
    ("steps", "eta", "share"),
    [(8, 0.0, 0.632), (28, 0.0, 0.879), (2000, 0.0, 0.998), (8, 1.0, 0.343), (2000, 1.0, 0.496)],
)
def test_share_of_the_null_space_variance(steps: int, eta: float, share: float) -> None:
    """Fresh noise in every step leaves half of the posterior's variance, however many there are."""
    of = case_with(np.eye(24))
    null = null_space(of)
    picture = recursion(of.problem, settings_of(steps, "pixel", eta))
    true = posterior(of.problem)
    assert np.trace(null @ picture.covariance) / np.trace(null @ true.covariance) == pytest.approx(
        share, abs=1e-3
    )


@pytest.mark.parametrize("changed", [{"eta": 0.85}, {"eta": 1.0}, {"guidance_strength": 0.8}])
def test_the_posterior_is_not_reached_otherwise(changed: dict[str, float]) -> None:
    of = case_with(np.eye(24))
    settings = replace(settings_of(2000, "pixel", 0.0), **changed)
    assert wasserstein(recursion(of.problem, settings), posterior(of.problem)) > 0.5
