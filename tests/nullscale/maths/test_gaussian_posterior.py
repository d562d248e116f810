"""The approach to the true posterior, which is known where the latents are the picture."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from dense_operator import DenseOperator
from gaussian import Array, Moments, posterior, typical_measurements, wasserstein
from gaussian_ddnm import Settings, recursion
from gaussian_sampling import (
    Case,
    assert_same,
    case,
    case_of,
    extract,
    random_covariance,
    settings_of,
)

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


def all_measured() -> Case:
    """A case in which every pixel is measured, and the probe's root mean square is 1."""
    same = np.eye(24)
    of = case_of(
        DenseOperator(same, (4, 6), (4, 6)),
        A=same,
        pinv=same,
        interpolation=same,
        autoencoder="identity",
    )
    probe = of.problem.probe / np.sqrt(np.mean(of.problem.probe**2))
    return replace(of, problem=replace(of.problem, probe=probe))


@pytest.mark.parametrize("levels", [(), (1.0, 0.9, 0.6), (0.9,), (0.9, 0.6, 0.9, 0.6)])
@pytest.mark.parametrize("eta", [0.0, 0.85, 1.0])
def test_noise_alone_is_taken_away_as_the_posteriors_mean_has_it(
    eta: float, levels: tuple[float, ...]
) -> None:
    """Down to the noise's own level, κ/(1+κ), the sampler is exact: `(1−σ) y` is `x_σ` there.

    And `E[x0 | x_σ]`, the last step, is then the posterior's mean, whatever the prior.
    """
    of, sigma_y = all_measured(), 0.4
    of_noise = sigma_y / (1 + sigma_y)
    settings = Settings(sigmas=(*levels, of_noise, 0.0), eta=eta, sigma_y=sigma_y)
    known = posterior(of.problem, sigma_y)
    for found in (extract(of, settings), recursion(of.problem, settings)):
        assert_same(found, Moments(known.mean, np.zeros_like(known.covariance)), 1e-7)


@pytest.mark.parametrize(("sigma_y", "steps"), [(0.3, 8), (0.6, 8), (1.0, 8), (0.3, 28)])
def test_allowing_for_noise_comes_nearer_to_the_posterior(sigma_y: float, steps: int) -> None:
    problem = all_measured().problem
    problem = replace(problem, y=typical_measurements(problem, sigma_y))
    ignored = settings_of(steps, "pixel", 0.85)
    distances = [
        wasserstein(recursion(problem, settings), posterior(problem, sigma_y))
        for settings in (ignored, replace(ignored, sigma_y=sigma_y))
    ]
    assert distances[1] < 0.97 * distances[0], distances


def test_typical_measurements_have_the_moments_of_all() -> None:
    problem, sigma_y = LOSSLESS.problem, 0.3
    rows = typical_measurements(problem, sigma_y)
    rng = np.random.default_rng(10)
    prior = problem.prior
    pictures = rng.multivariate_normal(prior.mean, prior.covariance, 200_000)
    drawn = pictures @ problem.A.T + sigma_y * rng.normal(size=(len(pictures), len(problem.A)))
    np.testing.assert_allclose(rows.mean(0), drawn.mean(0), atol=0.02)
    np.testing.assert_allclose(np.cov(rows.T, bias=True), np.cov(drawn.T), atol=0.02)
