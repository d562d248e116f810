"""The sampler against a prior whose result is known exactly, at any number of steps.

With Gaussian latents and an affine autoencoder the whole loop is affine in its noise, so driving it
with the unit vectors as noise yields the map itself. The sampler runs in float64 here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice, pairwise, product, repeat

import numpy as np
import pytest
import torch
from scipy.stats import chi2, norm
from torch import Tensor

from sr_engine.ddnm import Decode, Denoise, NetworkCall, drive, restore
from sr_engine.operators import Canvas
from sr_engine.request import UpscaleParams
from sr_engine.sampling import sigma_schedule
from tests.dense_operator import DenseOperator
from tests.gaussian import (
    Affine,
    Array,
    Map,
    Moments,
    Problem,
    Settings,
    posterior,
    recursion,
    simulate,
    wasserstein,
    x0_prediction,
)

PROJECTIONS = ("none", "latent", "pixel", "residual")
STEPS = (1, 2, 4, 8, 28)
ETAS = (0.0, 0.5, 0.85, 1.0)
SHIFT = 3.0
FALSE_ALARM = 1e-4  # share of seeds at which one statistical check would fail on correct code


@dataclass(frozen=True, slots=True)
class Quadratic:
    """An autoencoder's half that bends: ``v + bend · v · roll(v)``."""

    bend: float

    def __call__(self, rows: Array) -> Array:
        return rows + self.bend * rows * np.roll(rows, 1, axis=-1)


@dataclass(frozen=True, slots=True)
class Case:
    """A problem and the shapes that its flat vectors have as images."""

    problem: Problem
    latent_shape: tuple[int, int, int]
    picture_size: tuple[int, int]
    canvas: Canvas
    measurement_size: tuple[int, int]


def case(
    autoencoder: str, *, picture_size: tuple[int, int] = (4, 6), prior: Moments | None = None
) -> Case:
    """Build a small problem; a picture smaller than 4 × 6 lies on a canvas of that size."""
    rng = np.random.default_rng(20221200490)
    canvas = Canvas(picture_size, 2)
    (H, W), (h, w), (Hc, Wc) = picture_size, (2, 3), canvas.size
    pixels = Hc * Wc
    latent_shape = (2, 2, 3) if autoencoder == "lossy" else (1, Hc, Wc)
    latents = int(np.prod(latent_shape))
    A, y = rng.normal(size=(h * w, H * W)) / np.sqrt(H * W), rng.normal(size=h * w)
    decode: Map
    encode: Map
    if autoencoder == "identity":
        decode = encode = Affine(np.eye(pixels), np.zeros(pixels))
    elif autoencoder == "lossy":
        M = rng.normal(size=(pixels, latents)) / np.sqrt(latents)
        M[:, 0] = M[:, 1]  # a rank lost: two latents that paint the same
        N = np.linalg.pinv(M) + 0.1 * rng.normal(size=M.T.shape) / np.sqrt(pixels)
        decode, encode = Affine(M, rng.normal(size=pixels)), Affine(N, rng.normal(size=latents))
    else:
        decode, encode = Quadratic(0.3), Quadratic(-0.3)
    if prior is None:
        prior = Moments(0.5 * rng.normal(size=latents), random_covariance(rng, latents))
    problem = Problem(
        prior=prior,
        decode=decode,
        encode=encode,
        A=A,
        y=y,
        crop=np.eye(pixels).reshape(Hc, Wc, pixels)[:H, :W].reshape(H * W, pixels),
        extend=np.pad(
            np.eye(H * W).reshape(H, W, H * W), ((0, Hc - H), (0, Wc - W), (0, 0)), "reflect"
        ).reshape(pixels, H * W),
    )
    return Case(problem, latent_shape, picture_size, canvas, (h, w))


def random_covariance(rng: np.random.Generator, size: int) -> Array:
    vectors, _ = np.linalg.qr(rng.normal(size=(size, size)))
    return (vectors * rng.uniform(0.2, 2, size)) @ vectors.T


def sample(of: Case, settings: Settings, noises: Iterator[Array]) -> Array:
    """Run the sampler under test; one picture a row, from rows of ``noises``."""
    problem, canvas = of.problem, of.canvas
    rows = [next(noises)]
    count = len(rows[0])

    def draw_noise() -> Tensor:
        drawn = rows.pop() if rows else next(noises)
        return torch.from_numpy(drawn).unflatten(-1, of.latent_shape)

    def answer(call: NetworkCall) -> Tensor:
        if isinstance(call, Denoise):
            x = call.latents.flatten(1).numpy()
            velocity = (x - x0_prediction(problem.prior, call.sigma)(x)) / call.sigma
            return torch.from_numpy(velocity).unflatten(-1, of.latent_shape)
        if isinstance(call, Decode):
            pixels = problem.decode(call.latents.flatten(1).numpy())
            return torch.from_numpy(pixels).unflatten(-1, (1, *canvas.size))
        latents = problem.encode(call.pixels.flatten(1).numpy())
        return torch.from_numpy(latents).unflatten(-1, of.latent_shape)

    y = torch.from_numpy(problem.y).reshape(1, 1, *of.measurement_size)
    sampler = restore(
        y.expand(count, -1, -1, -1),
        operator=DenseOperator(problem.A, of.picture_size, of.measurement_size),
        canvas=canvas,
        sigmas=settings.sigmas,
        draw_noise=draw_noise,
        params=UpscaleParams(
            projection=settings.projection,
            guidance_strength=settings.guidance_strength,
            eta=settings.eta,
            rederive=settings.rederive,
        ),
    )
    return drive(sampler, answer).flatten(1).numpy()


def extract(of: Case, settings: Settings) -> Moments:
    """Return the exact moments of the sampler's result: its offset and its map of the noise."""
    size = len(of.problem.prior.mean)
    # One draw for the start and one for every step but the last; without η the first alone counts.
    draws = len(settings.sigmas) - 1 if settings.eta else 1
    basis = np.eye(draws * size).reshape(draws * size, draws, size)
    blocks = np.concatenate([np.zeros((1, draws, size)), basis])
    unused = np.zeros((len(blocks), size))
    pictures = sample(of, settings, chain(np.moveaxis(blocks, 1, 0), repeat(unused)))
    factor = (pictures[1:] - pictures[0]).T
    return Moments(pictures[0], factor @ factor.T)


def assert_same(found: Moments, known: Moments) -> None:
    np.testing.assert_allclose(found.mean, known.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.covariance, known.covariance, rtol=1e-9, atol=1e-9)


def settings_of(
    steps: int,
    projection: str,
    eta: float,
    *,
    guidance_strength: float = 1.0,
    rederive: bool = False,
    start: float = 1.0,
) -> Settings:
    return Settings(
        sigmas=sigma_schedule(steps, shift=SHIFT, start=start),
        projection=projection,
        guidance_strength=guidance_strength,
        eta=eta,
        rederive=rederive,
    )


def unit_noise(seed: int, of: Case, count: int) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    while True:
        yield rng.normal(size=(count, len(of.problem.prior.mean)))


AFFINE = {
    "identity": case("identity"),
    "lossy": case("lossy"),
}
QUADRATIC = case("quadratic")


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("name", AFFINE)
def test_moments_are_those_of_the_recursion(name: str, projection: str) -> None:
    of = AFFINE[name]
    for steps, eta, (lam, start) in product(STEPS, ETAS, ((1.0, 1.0), (0.8, 0.6))):
        for rederive in (False, True):
            settings = settings_of(
                steps, projection, eta, guidance_strength=lam, rederive=rederive, start=start
            )
            assert_same(extract(of, settings), recursion(of.problem, settings))


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
    pictures = sample(of, settings, unit_noise(1, of, 4000))
    assert drawn_from(recursion(of.problem, settings), pictures)


def test_the_check_of_samples_can_fail() -> None:
    of = AFFINE["lossy"]
    settings = settings_of(8, "pixel", 0.85)
    pictures = sample(of, settings, unit_noise(2, of, 4000))
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
    for lam, start in ((1.0, 1.0), (0.8, 0.6)):
        settings = settings_of(
            steps, projection, eta, guidance_strength=lam, rederive=rederive, start=start
        )
        noises = list(islice(unit_noise(3, QUADRATIC, 50), steps))
        found = sample(QUADRATIC, settings, iter(noises))
        known = simulate(QUADRATIC.problem, settings, iter(noises))
        np.testing.assert_allclose(found, known, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize(("steps", "eta"), [(4, 0.0), (8, 0.85)])
def test_moments_through_a_quadratic_autoencoder(projection: str, steps: int, eta: float) -> None:
    settings = settings_of(steps, projection, eta)
    pictures = sample(QUADRATIC, settings, unit_noise(4, QUADRATIC, 4000))
    others = simulate(QUADRATIC.problem, settings, unit_noise(5, QUADRATIC, 20000))
    assert drawn_alike(pictures, others)


def test_a_quadratic_autoencoder_separates_the_projections() -> None:
    drawn = {
        projection: sample(
            QUADRATIC, settings_of(8, projection, 0.85), unit_noise(6, QUADRATIC, 4000)
        )
        for projection in PROJECTIONS
    }
    for projection, other in (("latent", "residual"), ("pixel", "residual"), ("pixel", "latent")):
        settings = settings_of(8, other, 0.85)
        others = simulate(QUADRATIC.problem, settings, unit_noise(7, QUADRATIC, 20000))
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


def null_space(of: Case) -> Array:
    """Return the orthogonal projection on what the measurement does not see."""
    return np.eye(of.problem.A.shape[1]) - np.linalg.pinv(of.problem.A) @ of.problem.A


def case_with(covariance: Array) -> Case:
    """A case with a lossless autoencoder, whose latents have this covariance."""
    mean = 0.5 * np.random.default_rng(8).normal(size=len(covariance))
    return case("identity", prior=Moments(mean, covariance))


def uncorrelated() -> Array:
    """A covariance under which what the measurement sees says nothing on what it does not."""
    null = null_space(AFFINE["identity"])
    seen, rng = np.eye(len(null)) - null, np.random.default_rng(9)
    return sum(p @ random_covariance(rng, len(null)) @ p for p in (seen, null))


@pytest.mark.parametrize(
    ("covariance", "at_the_end"),
    [
        (np.eye(24), 0.005),
        (uncorrelated(), 0.005),
        (AFFINE["identity"].problem.prior.covariance, 0.15),
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
