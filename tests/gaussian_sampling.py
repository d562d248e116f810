"""The sampler under test, driven with a Gaussian prior's closed form in place of the networks.

It runs in float64 here. With an affine autoencoder the whole loop is affine in its noise, so the
unit vectors as noise yield the map itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise, repeat

import numpy as np
import torch
from dense_operator import DenseOperator
from gaussian import Affine, Array, Map, Moments, Problem, x0_prediction
from gaussian_ddnm import Settings
from torch import Tensor

from nullscale.maths.ddnm import drive, restore
from nullscale.maths.network_calls import Decode, Denoise, NetworkCall
from nullscale.maths.operators import Canvas, LinearOperator
from nullscale.maths.params import UpscaleParams
from nullscale.maths.sampling import sigma_schedule

SHIFT = 3.0
Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Quadratic:
    """An autoencoder's half that bends: ``v + bend · v · roll(v)``."""

    bend: float

    def __call__(self, rows: Array) -> Array:
        return rows + self.bend * rows * np.roll(rows, 1, axis=-1)


@dataclass(frozen=True, slots=True)
class Case:
    """A problem, its operator, and the shapes that its flat vectors have as images."""

    problem: Problem
    operator: LinearOperator
    canvas: Canvas
    latent_shape: Shape
    pixel_shape: Shape
    measurement_shape: Shape


def case(
    autoencoder: str, *, picture_size: tuple[int, int] = (4, 6), prior: Moments | None = None
) -> Case:
    """Build a small problem; a picture smaller than 4 × 6 lies on a canvas of that size."""
    H, W = picture_size
    A = np.random.default_rng(1).normal(size=(6, H * W)) / np.sqrt(H * W)
    operator = DenseOperator(A, picture_size, (2, 3))
    pinv = np.linalg.pinv(A)
    return case_of(
        operator, A=A, pinv=pinv, interpolation=pinv, autoencoder=autoencoder, prior=prior
    )


def case_of(
    operator: LinearOperator,
    *,
    A: Array,
    pinv: Array,
    interpolation: Array,
    autoencoder: str,
    channels: int = 1,
    prior: Moments | None = None,
) -> Case:
    """Build a problem around an operator whose matrices are known."""
    rng = np.random.default_rng(20221200490)
    (H, W), canvas = operator.image_size, Canvas(operator.image_size, 2)
    Hc, Wc = canvas.size
    pixels = channels * Hc * Wc
    latent_shape = (
        (channels, Hc, Wc) if autoencoder != "lossy" else (2 * channels, Hc // 2, Wc // 2)
    )
    latents = int(np.prod(latent_shape))
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
    on_canvas = np.eye(pixels).reshape(channels, Hc, Wc, pixels)
    picture = np.eye(channels * H * W).reshape(channels, H, W, -1)
    border = ((0, 0), (0, Hc - H), (0, Wc - W), (0, 0))
    problem = Problem(
        prior=prior,
        decode=decode,
        encode=encode,
        A=A,
        pinv=pinv,
        interpolation=interpolation,
        y=rng.normal(size=len(A)),
        probe=rng.normal(size=len(A)),
        crop=on_canvas[:, :H, :W].reshape(-1, pixels),
        extend=np.pad(picture, border, "reflect").reshape(pixels, -1),
    )
    measured = (-1, *operator.measurement_size)
    return Case(
        problem,
        operator,
        canvas,
        latent_shape,
        (channels, Hc, Wc),
        problem.y.reshape(measured).shape,
    )


def random_covariance(rng: np.random.Generator, size: int) -> Array:
    vectors, _ = np.linalg.qr(rng.normal(size=(size, size)))
    return (vectors * rng.uniform(0.2, 2, size)) @ vectors.T


def sample(of: Case, settings: Settings, noises: Iterator[Array]) -> Array:
    """Run the sampler under test; one picture a row, from rows of ``noises``."""
    problem = of.problem
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
            return torch.from_numpy(pixels).unflatten(-1, of.pixel_shape)
        latents = problem.encode(call.pixels.flatten(1).numpy())
        return torch.from_numpy(latents).unflatten(-1, of.latent_shape)

    def measured(row: Array) -> Tensor:
        return torch.from_numpy(row).reshape(of.measurement_shape).expand(count, -1, -1, -1)

    sampler = restore(
        measured(problem.y),
        operator=of.operator,
        canvas=of.canvas,
        sigmas=settings.sigmas,
        draw_noise=draw_noise,
        params=UpscaleParams(
            projection=settings.projection,
            guidance_strength=settings.guidance_strength,
            eta=settings.eta,
            rederive=settings.rederive,
            ending=settings.ending,
            sigma_y=settings.sigma_y,
            projection_every=settings.projection_every,
            projection_above=settings.projection_above,
            strength=settings.sigmas[0],
        ),
        probe=measured(problem.probe),
    )
    return drive(sampler, answer).flatten(1).numpy()


Sampled = Callable[[Case, Settings, Iterator[Array]], Array]


def extract(of: Case, settings: Settings, sampler: Sampled = sample) -> Moments:
    """Return the exact moments of a sampler's result: its offset and its map of the noise."""
    size = len(of.problem.prior.mean)
    jumps = any(later > sigma for sigma, later in pairwise(settings.sigmas))
    # One draw for the start and one for every step but the last or jump back; without either jumps
    # or η the first alone counts.
    draws = len(settings.sigmas) - 1 if settings.eta or jumps else 1
    basis = np.eye(draws * size).reshape(draws * size, draws, size)
    blocks = np.concatenate([np.zeros((1, draws, size)), basis])
    unused = np.zeros((len(blocks), size))
    pictures = sampler(of, settings, chain(np.moveaxis(blocks, 1, 0), repeat(unused)))
    factor = (pictures[1:] - pictures[0]).T
    return Moments(pictures[0], factor @ factor.T)


def assert_same(found: Moments, known: Moments, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(found.mean, known.mean, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found.covariance, known.covariance, rtol=tolerance, atol=tolerance)


def settings_of(
    steps: int,
    projection: str,
    eta: float,
    *,
    guidance_strength: float = 1.0,
    rederive: bool = False,
    start: float = 1.0,
    spacing: str = "linear",
    ending: str = "pixels",
    sigma_y: float = 0.0,
) -> Settings:
    return Settings(
        sigmas=sigma_schedule(steps, shift=SHIFT, start=start, spacing=spacing),
        projection=projection,
        guidance_strength=guidance_strength,
        eta=eta,
        rederive=rederive,
        ending=ending,
        sigma_y=sigma_y,
    )


def unit_noise(seed: int, of: Case, count: int) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    while True:
        yield rng.normal(size=(count, len(of.problem.prior.mean)))
