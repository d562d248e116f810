"""Pictures with the spectrum of photographs whose posterior is known, and figures against it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from gaussian import Affine, Array, Moments, Problem, posterior, typical_measurements, wasserstein
from gaussian_ddnm import Settings, recursion
from torch import Tensor

from nullscale.maths.operators import BicubicDownscale

SCALE = 4
CONTRAST = 0.1
"""Standard deviation of a pixel, as a share of the range, as in a small patch of a photograph."""

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Judge:
    """A problem of many measurements with its true posterior.

    Attributes:
        null: the projection on what the measurement does not see.
    """

    problem: Problem
    truth: Moments
    null: Array

    def sampler(self, settings: Settings) -> Figures:
        """Return the figures of DDNM."""
        return self.figures(recursion(self.problem, settings))

    def figures(self, found: Moments) -> Figures:
        """Return distance over the posterior's standard deviation, PSNR, and share of variance.

        The PSNR is that of one sample, of the mean of eight, and of the mean of infinitely many
        samples against the truth; the share is of the posterior's variance in the null space.
        """
        spread, true_spread = np.trace(found.covariance), np.trace(self.truth.covariance)
        bias = np.sum((found.mean - self.truth.mean) ** 2, axis=-1).mean()
        errors = [bias + true_spread + share * spread for share in (1, 1 / 8, 0)]
        unseen, true_unseen = (
            np.trace(self.null @ moments.covariance) for moments in (found, self.truth)
        )
        return {
            "distance": round(wasserstein(found, self.truth) / float(np.sqrt(true_spread)), 4),
            "psnr_db": [round(-10 * float(np.log10(e / len(self.null))), 3) for e in errors],
            "null_share": round(float(unseen / true_unseen), 4),
        }


def photographs(side_px: int) -> Moments:
    """Return the prior: power 1/f², unit variance as latents have it, no borders."""
    across = np.fft.fftfreq(side_px, 1 / side_px)
    # The mean varies as the lowest frequencies do.
    power = 1 / np.maximum(across[:, None] ** 2 + across**2, 1)
    power *= power.size / power.sum()
    units = np.eye(side_px**2).reshape(-1, side_px, side_px)
    covariance = np.fft.ifft2(power * np.fft.fft2(units)).real
    return Moments(np.zeros(side_px**2), covariance.reshape(side_px**2, -1))


def measured(side_px: int, sigma_y: float = 0.0) -> Judge:
    """Return the problem: pictures of that side, ×4 bicubic, noise of that standard deviation."""
    small, pixels = side_px // SCALE, side_px**2
    operator = BicubicDownscale((3 * small, 3 * small), SCALE)
    A, interpolation = endless(operator.A, side_px), endless(operator.interpolate, small)
    same, grey = np.eye(pixels), np.full(pixels, 0.5)
    probe = np.random.default_rng(0).normal(size=len(A))
    problem = Problem(
        prior=photographs(side_px),
        decode=Affine(CONTRAST * same, grey),
        encode=Affine(same / CONTRAST, -grey / CONTRAST),
        A=A,
        pinv=np.linalg.pinv(A),
        interpolation=interpolation,
        y=np.zeros(len(A)),
        # So few samples that chance would count.
        probe=probe / np.sqrt((probe**2).mean()),
        crop=same,
        extend=same,
    )
    problem = replace(problem, y=typical_measurements(problem, sigma_y))
    return Judge(problem, posterior(problem, sigma_y), same - problem.pinv @ A)


def endless(of: Callable[[Tensor], Tensor], side_px: int) -> Array:
    """Return the matrix of what is done to pictures that repeat themselves to all sides.

    Borders, of which so small a picture has far more than a photograph, do not count then.
    """
    units = torch.eye(side_px**2, dtype=torch.float64).unflatten(-1, (side_px, side_px))
    done = of(units.repeat(1, 3, 3))
    middle = slice(done.shape[-1] // 3, 2 * done.shape[-1] // 3)
    return np.asarray(done[:, middle, middle].flatten(1).numpy().T)
