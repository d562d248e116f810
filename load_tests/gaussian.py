"""A prior for which the right answer is known: Gaussian latents, in plain float64 matrices.

Pictures, latents and measurements are flat rows; every network is a matrix or a function of rows.
Nothing here is shared with the sampler.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Map = Callable[[Array], Array]
"""Takes rows to rows, each row one flat picture or its latents."""


@dataclass(frozen=True, slots=True)
class Affine:
    """The map ``v → matrix v + offset``, applied to rows; each may have an offset of its own."""

    matrix: Array
    offset: Array

    def __call__(self, rows: Array) -> Array:
        return rows @ self.matrix.T + self.offset

    def after(self, inner: "Affine") -> "Affine":
        """Return the map that applies ``inner``, then this one."""
        return Affine(self.matrix @ inner.matrix, self(inner.offset))


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and covariance; several means, one a row, where there are several measurements."""

    mean: Array
    covariance: Array

    def through(self, affine: Affine, noise: float = 0.0) -> "Moments":
        """Return the moments after the map and independent noise of this standard deviation."""
        covariance = affine.matrix @ self.covariance @ affine.matrix.T
        return Moments(affine(self.mean), covariance + noise**2 * np.eye(len(covariance)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A measurement of a picture whose latents are Gaussian.

    Attributes:
        prior: of the latents.
        decode, encode: the autoencoder, exact or lossy.
        A: the measurement of one flat picture, taken from its canvas by ``crop``.
        pinv: its inverse; a field, since that of a composition is not the Moore-Penrose one.
        interpolation: takes ``y`` to a smooth picture, from which warm starts are made.
        extend: fills the canvas from the picture.
        y: the measured values; several measurements are rows.
        probe: unit noise in the shape of one ``y``.
    """

    prior: Moments
    decode: Map
    encode: Map
    A: Array
    pinv: Array
    interpolation: Array
    y: Array
    probe: Array
    crop: Array
    extend: Array

    def latents_of_pinv(self, y: Array) -> Array:
        """Return ``g(E A†y)``."""
        return self.encode(y @ self.pinv.T @ self.extend.T)

    @property
    def start(self) -> Array:
        """``g(E Π z)`` with ``z`` the interpolation, made consistent: what a warm start noises."""
        guess = self.y @ self.interpolation.T
        return self.encode((guess + (self.y - guess @ self.A.T) @ self.pinv.T) @ self.extend.T)

    def latent_noise(self, sigma_y: float) -> float:
        """Return the root mean square, over all latents, of what so strong a probe changes."""
        noisy = self.latents_of_pinv(self.y + sigma_y * self.probe)
        return float(np.sqrt(np.mean((noisy - self.latents_of_pinv(self.y)) ** 2)))

    def measured_noise(self, sigma_y: float) -> float:
        """Return κ: the same over as many dimensions as are measured, where the noise is."""
        latents = len(self.prior.mean)
        dimensions = min(len(self.A), latents)
        return self.latent_noise(sigma_y) * float(np.sqrt(latents / dimensions))


def x0_prediction(prior: Moments, sigma: float) -> Affine:
    """Return ``E[x0 | x_σ]`` as a function of ``x_σ = (1−σ) x0 + σ ε``."""
    keep, size = 1 - sigma, len(prior.mean)
    noisy = keep**2 * prior.covariance + sigma**2 * np.eye(size)
    gain = keep * np.linalg.solve(noisy, prior.covariance).T
    return Affine(gain, prior.mean - keep * gain @ prior.mean)


def typical_measurements(problem: Problem, sigma_y: float = 0.0) -> Array:
    """Return rows whose mean and covariance are exactly those of ``y = A x + σ_y n``.

    What is quadratic in ``y`` has the same mean over these few as over all measurements.
    """
    prior = _pictures(problem)
    seen = problem.A @ prior.covariance @ problem.A.T + sigma_y**2 * np.eye(len(problem.A))
    off_centre = np.sqrt(len(seen)) * _root(seen)
    return problem.A @ prior.mean + np.concatenate([off_centre, -off_centre])


def posterior(problem: Problem, sigma_y: float = 0.0) -> Moments:
    """Return the moments of the picture given ``y = A x + σ_y n``; the autoencoder is lossless."""
    A, prior = problem.A, _pictures(problem)
    seen = A @ prior.covariance @ A.T + sigma_y**2 * np.eye(len(A))
    gain = np.linalg.solve(seen, A @ prior.covariance).T
    return Moments(
        prior.mean + (problem.y - A @ prior.mean) @ gain.T,
        prior.covariance - gain @ A @ prior.covariance,
    )


def wasserstein(a: Moments, b: Moments) -> float:
    """Return the 2-Wasserstein distance of two Gaussians, degenerate ones included.

    Of several measurements' it is the root mean square: their covariances are the same.
    """
    root = _root(a.covariance)
    bures = np.trace(a.covariance + b.covariance - 2 * _root(root @ b.covariance @ root))
    apart = np.sum((a.mean - b.mean) ** 2, axis=-1).mean()
    return float(np.sqrt(apart + max(bures, 0.0)))


def _pictures(problem: Problem) -> Moments:
    assert isinstance(problem.decode, Affine)
    cropped = Affine(problem.crop, np.zeros(len(problem.crop)))
    return problem.prior.through(cropped.after(problem.decode))


def _root(matrix: Array) -> Array:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
