"""The sampler against a prior whose result is known exactly, at any number of steps."""

from dataclasses import replace
from itertools import cycle, islice, product

import numpy as np
import pytest
from gaussian import Array, Moments, wasserstein
from gaussian_ddnm import recursion, simulate
from gaussian_sampling import assert_same, case, extract, sample, settings_of, unit_noise
from scipy.stats import chi2, norm

from nullscale.maths.sampling import sigma_schedule

PROJECTIONS = ("none", "latent", "pixel", "residual")
STEPS = (1, 2, 4, 8, 28)
ETAS = (0.0, 0.5, 0.85, 1.0)
ENDINGS = ("pixels", "latents")
SPACINGS = ("linear", "diffusers")
# κ is below what every level bears, or above what the lower ones do.
NOISES = (0.0, 0.05, 0.3, 0.9)
# Six steps' levels in the order of a walk: straight on; back by two, twice; to the start, and some
# of them again at once.
TRAVELS = (range(7), (0, 1, 2, 0, 1, 2, 3, 4, 2, 3, 4, 5, 6), (0, 1, 1, 3, 0, 1, 2, 3, 4, 5, 5, 6))
FALSE_ALARM = 1e-4  # share of seeds at which one statistical check would fail on correct code


AFFINE = {
    "identity": case("identity"),
    "lossy": case("lossy"),
}
QUADRATIC = case("quadratic")


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("name", AFFINE)
def test_moments_are_those_of_the_recursion(name: str, projection: str) -> None:
    of = AFFINE[name]
    variants = ((1.0, 1.0, False), (0.8, 1.0, True), (0.8, 0.6, False))
    for steps, eta, (lam, start, rederive) in product(STEPS, ETAS, variants):
        settings = settings_of(
            steps, projection, eta, guidance_strength=lam, rederive=rederive, start=start
        )
        assert_same(extract(of, settings), recursion(of.problem, settings))


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("name", AFFINE)
def test_moments_with_noise_time_travel_both_endings_and_both_spacings(
    name: str, projection: str
) -> None:
    of = AFFINE[name]
    # Of the other parameters each takes its turn.
    others = cycle(
        [(0.0, True, 1.0, 1, 0.0), (0.85, False, 0.6, 1, 0.0), (0.5, False, 1.0, 2, 0.4)]
    )
    variants = product(TRAVELS, ENDINGS, SPACINGS, NOISES)
    for travel, ending, spacing, sigma_y in variants:
        eta, rederive, start, every, above = next(others)
        settings = settings_of(
            6,
            projection,
            eta,
            guidance_strength=0.9,
            rederive=rederive,
            start=start,
            spacing=spacing,
            ending=ending,
            sigma_y=sigma_y,
        )
        settings = replace(
            settings,
            sigmas=tuple(settings.sigmas[i] for i in travel),
            projection_every=every,
            projection_above=above,
        )
        # At the noise's own level what is left to add is the root of a difference that is 0.
        tolerance = 1e-7 if settings.noisy else 1e-9
        assert_same(extract(of, settings), recursion(of.problem, settings), tolerance)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("picture_size", [(3, 5), (4, 5), (1, 2)])
def test_moments_on_a_canvas_larger_than_the_picture(
    picture_size: tuple[int, int], projection: str
) -> None:
    of = case("lossy" if picture_size == (4, 5) else "identity", picture_size=picture_size)
    for lam, start in product((1.0, 0.8), (1.0, 0.6)):
        settings = settings_of(4, projection, 0.5, guidance_strength=lam, start=start)
        assert_same(extract(of, settings), recursion(of.problem, settings))


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize(("steps", "eta"), [(2, 0.0), (4, 0.85), (8, 0.5), (28, 1.0)])
def test_samples_have_the_moments_of_the_recursion(
    name: str, projection: str, steps: int, eta: float
) -> None:
    of, settings = AFFINE[name], settings_of(steps, projection, eta, guidance_strength=0.9)
    pictures = sample(of, settings, unit_noise(1, of, 3000))
    assert drawn_from(recursion(of.problem, settings), pictures)


def test_the_check_of_samples_can_fail() -> None:
    of = AFFINE["lossy"]
    settings = settings_of(8, "pixel", 0.85)
    pictures = sample(of, settings, unit_noise(2, of, 3000))
    for wrong in (
        replace(settings, eta=0.75),
        replace(settings, guidance_strength=0.97),
        replace(settings, rederive=True),
        replace(settings, projection="residual"),
        replace(settings, sigmas=sigma_schedule(8, shift=2.7)),
    ):
        assert not drawn_from(recursion(of.problem, wrong), pictures), wrong


def drawn_from(known: Moments, pictures: Array) -> bool:
    """Whether the rows' mean and covariance are within sampling error of the known ones.

    Whitened, the mean's squares and the covariance's deviations from I, each over its variance
    (1/n off the diagonal, 2/n on it), sum to χ². Directions without variance must have none.
    """
    values, vectors = np.linalg.eigh(known.covariance)
    free = values > 1e-9
    centred = (pictures - known.mean) @ vectors
    if not np.allclose(centred[:, ~free], 0, atol=1e-7):
        return False
    white = centred[:, free] / np.sqrt(values[free])
    count, rank = white.shape
    of_mean = count * np.sum(white.mean(0) ** 2)
    deviation = white.T @ white / count - np.eye(rank)
    of_covariance = count * np.sum(deviation**2) / 2  # off the diagonal every entry stands twice
    return bool(
        of_mean < chi2.isf(FALSE_ALARM, rank)
        and of_covariance < chi2.isf(FALSE_ALARM, rank * (rank + 1) / 2)
    )


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize(("steps", "eta", "rederive"), [(2, 0.0, True), (8, 0.85, False)])
def test_every_sample_through_a_quadratic_autoencoder(
    projection: str, steps: int, eta: float, rederive: bool
) -> None:
    variants = product(((1.0, 1.0), (0.8, 0.6)), ENDINGS, (0.0, 0.2), (False, True))
    for (lam, start), ending, sigma_y, back in variants:
        settings = settings_of(
            steps,
            projection,
            eta,
            guidance_strength=lam,
            rederive=rederive,
            start=start,
            ending=ending,
            sigma_y=sigma_y,
        )
        if back:
            *sigmas, last = settings.sigmas
            settings = replace(settings, sigmas=(*sigmas, *sigmas, last))
        noises = list(islice(unit_noise(3, QUADRATIC, 50), len(settings.sigmas) - 1))
        found = sample(QUADRATIC, settings, iter(noises))
        known = simulate(QUADRATIC.problem, settings, iter(noises))
        np.testing.assert_allclose(found, known, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize(("steps", "eta"), [(4, 0.0), (8, 0.85)])
def test_moments_through_a_quadratic_autoencoder(projection: str, steps: int, eta: float) -> None:
    settings = settings_of(steps, projection, eta)
    pictures = sample(QUADRATIC, settings, unit_noise(4, QUADRATIC, 3000))
    others = simulate(QUADRATIC.problem, settings, unit_noise(5, QUADRATIC, 8000))
    assert drawn_alike(pictures, others)


def test_a_quadratic_autoencoder_separates_the_projections() -> None:
    drawn = {
        projection: sample(
            QUADRATIC, settings_of(8, projection, 0.85), unit_noise(6, QUADRATIC, 3000)
        )
        for projection in PROJECTIONS
    }
    for projection, other in (("latent", "residual"), ("pixel", "residual"), ("pixel", "latent")):
        settings = settings_of(8, other, 0.85)
        others = simulate(QUADRATIC.problem, settings, unit_noise(7, QUADRATIC, 8000))
        assert not drawn_alike(drawn[projection], others), (projection, other)


def drawn_alike(a: Array, b: Array) -> bool:
    """Whether two sets of rows agree in mean and covariance within their sampling error."""
    centre, scale = b.mean(0), b.std(0)
    features = []
    for rows in (a, b):
        z = (rows - centre) / scale
        i, j = np.triu_indices(z.shape[1])
        features.append(np.concatenate([z, z[:, i] * z[:, j]], axis=1))
    error = np.sqrt(sum(f.var(0) / len(f) for f in features))
    worst = np.abs((features[0].mean(0) - features[1].mean(0)) / error).max()
    return bool(worst < norm.isf(FALSE_ALARM / 2 / features[0].shape[1]))


def test_what_tells_the_projections_apart() -> None:
    """A lossless autoencoder does not; loss tells ``pixel`` from the rest, with λ ≠ 1 all three."""
    pictures = {
        (name, lam, projection): extract(
            AFFINE[name], settings_of(8, projection, 0.85, guidance_strength=lam)
        )
        for name, lam, projection in product(AFFINE, (1.0, 0.8), PROJECTIONS)
    }

    def distance(name: str, lam: float, one: str, other: str) -> float:
        return wasserstein(pictures[name, lam, one], pictures[name, lam, other])

    for lam in (1.0, 0.8):
        assert_same(pictures["identity", lam, "latent"], pictures["identity", lam, "pixel"])
        assert_same(pictures["identity", lam, "residual"], pictures["identity", lam, "pixel"])
        assert distance("identity", lam, "pixel", "none") > 0.1
        assert distance("lossy", lam, "pixel", "residual") > 0.1
        assert distance("lossy", lam, "pixel", "latent") > 0.1
    assert_same(pictures["lossy", 1.0, "latent"], pictures["lossy", 1.0, "residual"])
    assert distance("lossy", 0.8, "latent", "residual") > 0.1
