"""The sampler under test, driven with a Gaussian prior's closed form in place of the networks.

It runs in float64 here. With an affine autoencoder the whole loop is affine in its noise, so the
unit vectors as noise yield the map itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
import torch
from dense_operator import DenseOperator
from gaussian import Affine, Array, Map, Moments, Problem, Settings, x0_prediction
from torch import Tensor

from sr_engine.ddnm import drive, restore
from sr_engine.network_calls import Decode, Denoise, NetworkCall
from sr_engine.operators import Canvas
from sr_engine.request import UpscaleParams
from sr_engine.sampling import sigma_schedule

SHIFT = 3.0


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
            strength=settings.sigmas[0],
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
