"""DDNM on a Gaussian prior, twice and independently of the sampler: exact moments, and samples.

DDNM and DDNM+: Wang, Yu & Zhang, arXiv 2212.00490, Eqs. 13 and 17 to 19, and its Algorithm 2 (time
travel), moved to the straight path ``x_σ = (1−σ) x0 + σ ε``. The sampler makes allowance for noise
in another way than DDNM+: its levels end at the noise's own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from gaussian import Affine, Array, Moments, Problem, x0_prediction

Allowance = Literal["levels", "measured levels", "ddnm+"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The sampler's settings, in the sampler's names.

    Attributes:
        sigmas: noise levels; where the next is higher, noise is added again (time travel).
    """

    sigmas: tuple[float, ...]
    projection: str = "pixel"
    guidance_strength: float = 1.0
    eta: float = 0.0
    rederive: bool = False
    ending: str = "pixels"
    sigma_y: float = 0.0
    projection_every: int = 1
    projection_above: float = 0.0
    allowance: Allowance = "levels"
    """How noise is allowed for: by levels that end at its own, by the same with noise counted over
    the measured dimensions alone, or as in DDNM+."""

    @property
    def noisy(self) -> bool:
        """Whether noise is allowed for at all."""
        return self.sigma_y > 0 and self.projection != "none"

    def walk(self, problem: Problem) -> list[float]:
        """Return the levels, drawn together where they would go below the noise's own."""
        floor = 0.0
        if self.noisy and self.allowance != "ddnm+":
            measured = self.allowance == "measured levels"
            kappa = (problem.measured_noise if measured else problem.latent_noise)(self.sigma_y)
            floor = kappa / (1 + kappa)
        levels = np.array(self.sigmas[:-1])
        if levels.min() < floor:
            # One that starts below stays in its order, within a thousandth.
            top = max(levels.max(), floor + min(0.001, 1 - floor))
            if levels.min() < levels.max():
                levels = np.interp(levels, [levels.min(), levels.max()], [floor, top])
            else:
                levels[:] = floor
        return [*levels.tolist(), 0.0]

    @property
    def consistent(self) -> bool:
        """Whether the picture is projected in pixels at the end."""
        return self.projection != "none" and self.ending == "pixels" and not self.noisy

    def projects(self) -> list[bool]:
        """Say of each denoising step whether it projects in latents.

        The last does only where nothing makes the picture consistent after it, nor allows for
        noise; there, the last that may does whatever is left out of the others. A single step that
        allows for noise does not where the start knew the input.
        """
        levels = [sigma for sigma, lower in pairwise(self.sigmas) if lower <= sigma]
        found = [
            n > 0 and n % self.projection_every == 0 and s > self.projection_above
            for n, s in zip(range(len(levels) - 1, -1, -1), levels, strict=True)
        ]
        if not self.noisy:
            found[-1] = not self.consistent
        elif len(found) > 1:
            found[-2] = True
        else:
            found[0] = self.sigmas[0] == 1
        return [self.projection != "none" and one for one in found]

    def latent_noise(self, problem: Problem) -> float:
        """Return the noise of a corrected estimate, over all latents; 0 if none is allowed for."""
        return problem.latent_noise(self.sigma_y) if self.noisy else 0.0


def recursion(problem: Problem, settings: Settings) -> Moments:
    """Return the exact moments of the final picture; the autoencoder must be affine.

    Mean and covariance are carried from step to step as a Kalman filter does it. A step is
    ``x_σ' = (1−σ') x̂0 + σ' s (√(1−η²) ε + η n)`` with ``x̂0`` and ``ε`` affine in ``x_σ``, hence
    affine itself, plus independent noise of variance ``(σ' s η)²``.
    """
    sigmas, eta, kappa = settings.walk(problem), settings.eta, settings.latent_noise(problem)
    size = len(problem.prior.mean)
    identity = np.eye(size)
    correct, projecting = _correction(problem, settings), iter(settings.projects())
    _, spread = _shares(sigmas[0], kappa)
    x = Moments((1 - sigmas[0]) * problem.start, (spread * sigmas[0]) ** 2 * identity)
    for sigma, sigma_next in pairwise(sigmas[:-1]):
        if sigma_next > sigma:
            kept = (1 - sigma_next) / (1 - sigma)
            added = np.sqrt(sigma_next**2 - (kept * sigma) ** 2)
            x = x.through(Affine(kept * identity, np.zeros(size)), added)
            continue
        trust, spread = _shares(sigma_next, kappa) if next(projecting) else (0.0, 1.0)
        if trust and settings.allowance != "ddnm+":
            trust = 1.0
        predicted = x0_prediction(problem.prior, sigma)
        partly = Affine((1 - trust) * identity + trust * correct.matrix, trust * correct.offset)
        corrected = partly.after(predicted)
        source = corrected if settings.rederive else predicted
        clean, kept = 1 - sigma_next, spread * sigma_next * np.sqrt(1 - eta**2) / sigma
        step = Affine(
            clean * corrected.matrix + kept * (identity - (1 - sigma) * source.matrix),
            clean * corrected.offset - kept * (1 - sigma) * source.offset,
        )
        x = x.through(step, spread * sigma_next * eta)

    last = x0_prediction(problem.prior, sigmas[-2])
    if next(projecting):
        last = correct.after(last)
    assert isinstance(problem.decode, Affine)
    picture = problem.decode.after(last)
    if settings.consistent:
        picture = _projection(problem, settings).after(picture)
    return x.through(Affine(problem.crop, np.zeros(len(problem.crop))).after(picture))


def _shares(sigma_next: float, kappa: float) -> tuple[float, float]:
    """Return w, how much of the correction is trusted, and s, how much noise is left to add."""
    ratio = (1 - sigma_next) * kappa / sigma_next
    return min(1.0, 1 / ratio) if ratio else 1.0, float(np.sqrt(1 - min(1.0, ratio) ** 2))


def _correction(problem: Problem, settings: Settings) -> Affine:
    """Return what takes a predicted ``x0`` to the corrected one."""
    decode, encode = problem.decode, problem.encode
    assert isinstance(encode, Affine) and isinstance(decode, Affine)
    size, lam = len(problem.prior.mean), settings.guidance_strength
    same, no_offset = np.eye(size), np.zeros(size)
    there_and_back = encode.after(decode)
    projected = encode.after(_projection(problem, settings)).after(decode)
    match settings.projection:
        case "none":
            return Affine(same, no_offset)
        case "latent":
            seen = encode.after(Affine(_seen(problem), np.zeros(len(decode.offset)))).after(decode)
            fixed = problem.latents_of_pinv(problem.y)
            return Affine(lam * (same - seen.matrix), fixed - lam * seen.offset)
        case "pixel":
            return projected
        case "residual":
            return Affine(
                same + projected.matrix - there_and_back.matrix,
                projected.offset - there_and_back.offset,
            )
        case unknown:
            raise AssertionError(unknown)


def _projection(problem: Problem, settings: Settings) -> Affine:
    """Return ``Π_λ`` on the canvas."""
    seen = _seen(problem)
    return Affine(
        settings.guidance_strength * (np.eye(len(seen)) - seen),
        problem.y @ problem.pinv.T @ problem.extend.T,
    )


def _seen(problem: Problem) -> Array:
    return problem.extend @ problem.pinv @ problem.A @ problem.crop


def simulate(problem: Problem, settings: Settings, noises: Iterator[Array]) -> Array:
    """Return one picture a row, sampled from rows of ``noises``; any autoencoder will do.

    What ``recursion`` says with w and s stands here as it does in the paper, with λ_t and γ_t.
    """
    C, E, decode, encode = problem.crop, problem.extend, problem.decode, problem.encode
    lam, eta, kappa = settings.guidance_strength, settings.eta, settings.latent_noise(problem)
    seen = C.T @ problem.A.T @ problem.pinv.T @ E.T
    fixed = problem.y @ problem.pinv.T @ E.T

    def project(pictures: Array) -> Array:
        return fixed + lam * (pictures - pictures @ seen)

    def correct(x0: Array) -> Array:
        match settings.projection:
            case "none":
                return x0
            case "latent":
                return encode(np.atleast_2d(fixed)) + lam * (x0 - encode(decode(x0) @ seen))
            case "pixel":
                return encode(project(decode(x0)))
            case "residual":
                pictures = decode(x0)
                return x0 + encode(project(pictures)) - encode(pictures)
            case unknown:
                raise AssertionError(unknown)

    def gamma(sigma: float) -> float:
        """Return the noise that makes up σ with what the trusted measurement brings of its own."""
        return float(np.sqrt(max(sigma**2 - ((1 - sigma) * kappa) ** 2, 0.0)))

    sigmas = settings.walk(problem)
    sigma = sigmas[0]
    x = gamma(sigma) * next(noises) + (1 - sigma) * problem.start
    projecting = iter(settings.projects())
    for sigma, sigma_next in pairwise(sigmas):
        if sigma_next > sigma:
            x = x * (1 - sigma_next) / (1 - sigma)
            present = sigma * (1 - sigma_next) / (1 - sigma)
            x = x + np.sqrt(sigma_next**2 - present**2) * next(noises)
            continue
        corrected = x0 = x0_prediction(problem.prior, sigma)(x)
        projects = next(projecting)
        if sigma_next == 0:
            break
        left = sigma_next
        if projects:
            left, measured = gamma(sigma_next), (1 - sigma_next) * kappa
            trust = sigma_next / max(sigma_next, measured) if settings.allowance == "ddnm+" else 1.0
            corrected = (1 - trust) * x0 + trust * correct(x0)
        noise = (x - (1 - sigma) * (corrected if settings.rederive else x0)) / sigma
        mixed = np.sqrt(1 - eta**2) * noise + eta * next(noises)
        x = (1 - sigma_next) * corrected + left * mixed

    if projects:
        x0 = correct(x0)
    pictures = decode(x0)
    if settings.consistent:
        pictures = project(pictures)
    return pictures @ C.T
