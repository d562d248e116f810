"""A prior for which the sampler's result is known: Gaussian latents, in plain float64 matrices.

Nothing here is shared with the sampler. Pictures are flat vectors, every network is a matrix or a
function of rows, and the mean and covariance of the result are carried from step to step as a
Kalman filter does it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

Array = np.ndarray
Map = Callable[[Array], Array]
"""Takes rows to rows, each row one flat picture or its latents."""


@dataclass(frozen=True, slots=True)
class Affine:
    """The map ``v → matrix v + offset``, applied to rows."""

    matrix: Array
    offset: Array

    def __call__(self, rows: Array) -> Array:
        return rows @ self.matrix.T + self.offset


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and covariance."""

    mean: Array
    covariance: Array

    def through(self, matrix: Array, offset: Array) -> "Moments":
        """Return the moments of ``matrix v + offset``."""
        return Moments(matrix @ self.mean + offset, matrix @ self.covariance @ matrix.T)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A measurement of a picture whose latents are Gaussian.

    Attributes:
        prior: of the latents.
        decode, encode: the autoencoder, exact or lossy.
        A: the measurement of one flat picture, taken from its canvas by ``crop``.
        extend: fills the canvas from the picture.
        y: the measured values.
    """

    prior: Moments
    decode: Map
    encode: Map
    A: Array
    y: Array
    crop: Array
    extend: Array

    @property
    def pinv_y(self) -> Array:
        """``A†y``, by singular values."""
        return np.linalg.pinv(self.A) @ self.y


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The sampler's settings, in the sampler's names."""

    sigmas: tuple[float, ...]
    projection: str = "pixel"
    guidance_strength: float = 1.0
    eta: float = 0.0
    rederive: bool = False


def x0_prediction(prior: Moments, sigma: float) -> Affine:
    """Return ``E[x0 | x_σ]`` as a function of ``x_σ = (1−σ) x0 + σ ε``."""
    keep, size = 1 - sigma, len(prior.mean)
    noisy = keep**2 * prior.covariance + sigma**2 * np.eye(size)
    gain = keep * np.linalg.solve(noisy, prior.covariance).T
    return Affine(gain, prior.mean - keep * gain @ prior.mean)


def recursion(problem: Problem, settings: Settings) -> Moments:
    """Return the exact moments of the final picture; the autoencoder must be affine.

    One step is ``x_σ' = (1−σ') (P x0 + q) + σ' (√(1−η²) ε + η n)`` with ``x0`` and ``ε`` affine in
    ``x_σ``, hence affine itself, plus independent noise of variance ``(σ'η)²``.
    """
    sigmas, eta = settings.sigmas, settings.eta
    size = len(problem.prior.mean)
    identity = np.eye(size)
    P, q = _correction(problem, settings)
    assert isinstance(problem.encode, Affine) and isinstance(problem.decode, Affine)
    start = problem.encode(problem.extend @ problem.pinv_y)
    x = Moments((1 - sigmas[0]) * start, sigmas[0] ** 2 * identity)
    for sigma, sigma_next in pairwise(sigmas[:-1]):
        predict = x0_prediction(problem.prior, sigma)
        corrected = Affine(P @ predict.matrix, P @ predict.offset + q)
        source = corrected if settings.rederive else predict
        noise = Affine(
            (identity - (1 - sigma) * source.matrix) / sigma, -(1 - sigma) * source.offset / sigma
        )
        kept = sigma_next * np.sqrt(1 - eta**2)
        x = x.through(
            (1 - sigma_next) * corrected.matrix + kept * noise.matrix,
            (1 - sigma_next) * corrected.offset + kept * noise.offset,
        )
        x = replace(x, covariance=x.covariance + (sigma_next * eta) ** 2 * identity)

    predict = x0_prediction(problem.prior, sigmas[-2])
    picture = x.through(predict.matrix, predict.offset)
    picture = picture.through(problem.decode.matrix, problem.decode.offset)
    if settings.projection == "none":
        return picture.through(problem.crop, np.zeros(len(problem.crop)))
    null, constant = _projection(problem, settings)
    return picture.through(problem.crop @ null, problem.crop @ constant)


def simulate(problem: Problem, settings: Settings, noises: Iterator[Array]) -> Array:
    """Return one picture a row, sampled from rows of ``noises``; any autoencoder will do."""
    A, C, E = problem.A, problem.crop, problem.extend
    decode, encode, lam = problem.decode, problem.encode, settings.guidance_strength
    seen = np.linalg.pinv(A) @ A @ C
    on_canvas = E @ problem.pinv_y

    def project(pictures: Array) -> Array:
        return on_canvas + lam * (pictures - pictures @ (E @ seen).T)

    sigma = settings.sigmas[0]
    x = sigma * next(noises) + (1 - sigma) * encode(on_canvas[None])
    for sigma, sigma_next in pairwise(settings.sigmas[:-1]):
        x0 = x0_prediction(problem.prior, sigma)(x)
        match settings.projection:
            case "none":
                corrected = x0
            case "latent":
                corrected = encode(on_canvas[None]) + lam * (x0 - encode(decode(x0) @ (E @ seen).T))
            case "pixel":
                corrected = encode(project(decode(x0)))
            case "residual":
                pictures = decode(x0)
                corrected = x0 + encode(project(pictures)) - encode(pictures)
            case unknown:
                raise AssertionError(unknown)
        noise = (x - (1 - sigma) * (corrected if settings.rederive else x0)) / sigma
        mixed = np.sqrt(1 - settings.eta**2) * noise + settings.eta * next(noises)
        x = (1 - sigma_next) * corrected + sigma_next * mixed
    pictures = decode(x0_prediction(problem.prior, settings.sigmas[-2])(x))
    return (pictures if settings.projection == "none" else project(pictures)) @ C.T


def posterior(problem: Problem) -> Moments:
    """Return the moments of the picture given ``A x = y``, if the latents are the picture."""
    A, prior = problem.A @ problem.crop, problem.prior
    gain = np.linalg.solve(A @ prior.covariance @ A.T, A @ prior.covariance).T
    return Moments(
        prior.mean + gain @ (problem.y - A @ prior.mean),
        prior.covariance - gain @ A @ prior.covariance,
    )


def wasserstein(a: Moments, b: Moments) -> float:
    """Return the 2-Wasserstein distance of two Gaussians, degenerate ones included."""
    root = _root(a.covariance)
    bures = np.trace(a.covariance + b.covariance - 2 * _root(root @ b.covariance @ root))
    return float(np.sqrt(np.sum((a.mean - b.mean) ** 2) + max(bures, 0.0)))


def _correction(problem: Problem, settings: Settings) -> tuple[Array, Array]:
    """Return P and q of the corrected estimate ``P x0 + q``."""
    assert isinstance(problem.encode, Affine) and isinstance(problem.decode, Affine)
    M, m = problem.decode.matrix, problem.decode.offset
    N, n = problem.encode.matrix, problem.encode.offset
    size, lam = len(problem.prior.mean), settings.guidance_strength
    null, constant = _projection(problem, settings)
    seen = problem.extend @ np.linalg.pinv(problem.A) @ problem.A @ problem.crop
    match settings.projection:
        case "none":
            return np.eye(size), np.zeros(size)
        case "latent":
            return (
                lam * (np.eye(size) - N @ seen @ M),
                N @ constant + n - lam * (N @ seen @ m + n),
            )
        case "pixel":
            return N @ null @ M, N @ (null @ m + constant) + n
        case "residual":
            return np.eye(size) + N @ (null - np.eye(len(m))) @ M, N @ (null @ m + constant - m)
        case unknown:
            raise AssertionError(unknown)


def _projection(problem: Problem, settings: Settings) -> tuple[Array, Array]:
    """Return the matrix and the constant of ``Π_λ`` on the canvas."""
    seen = problem.extend @ np.linalg.pinv(problem.A) @ problem.A @ problem.crop
    null = settings.guidance_strength * (np.eye(len(seen)) - seen)
    return null, problem.extend @ problem.pinv_y


def _root(matrix: Array) -> Array:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
