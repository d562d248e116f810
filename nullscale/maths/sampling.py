"""Rectified-flow sampling: identities between x, x0, noise and velocity, and the noise levels.

Notation of SD3 (Esser et al., 2024, arXiv 2403.03206): ``x_σ = (1−σ)·x0 + σ·ε`` with velocity
``v = ε − x0``; σ runs from 1 (noise) to 0 (picture).
"""

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor

SigmaSpacing = Literal["linear", "diffusers"]

TRAINING_LEVELS = 1000


def add_noise(
    x0: Float[Tensor, "*b c h w"], noise: Float[Tensor, "*b c h w"], sigma: float
) -> Float[Tensor, "*b c h w"]:
    """Return ``x_σ``, the straight path between picture and noise (SD3, Eq. 13)."""
    return ((1 - sigma) * x0).add_(noise, alpha=sigma)


def x0_from_velocity(
    x: Float[Tensor, "*b c h w"], velocity: Float[Tensor, "*b c h w"], sigma: float
) -> Float[Tensor, "*b c h w"]:
    """Return the clean latents that ``velocity`` predicts from ``x`` at level ``sigma``."""
    return x.sub(velocity, alpha=sigma)


def noise_from_velocity(
    x: Float[Tensor, "*b c h w"], velocity: Float[Tensor, "*b c h w"], sigma: float
) -> Float[Tensor, "*b c h w"]:
    """Return the noise that ``velocity`` predicts from ``x`` at level ``sigma``."""
    return x.add(velocity, alpha=1 - sigma)


def guided_velocity(
    prompted: Float[Tensor, "*b c h w"],
    unprompted: Float[Tensor, "*b c h w"],
    guidance_scale: float,
) -> Float[Tensor, "*b c h w"]:
    """Combine two velocities: ``v_∅ + w (v_p − v_∅)`` (Ho & Salimans 2022, Eq. 6)."""
    return unprompted + guidance_scale * (prompted - unprompted)


def take_step(
    x0: Float[Tensor, "*b c h w"],
    noise: Float[Tensor, "*b c h w"],
    fresh_noise: Float[Tensor, "*b c h w"],
    sigma_next: float,
    eta: float,
) -> Float[Tensor, "*b c h w"]:
    """Move to the next noise level, a share ``eta`` of the noise drawn anew.

    ``√(1−η²)·ε + η·n`` has unit variance where both have: DDIM's stochastic step (Song et al. 2021,
    Eq. 12) on the straight path.
    """
    kept = (1 - eta**2) ** 0.5
    return add_noise(x0, (kept * noise).add_(fresh_noise, alpha=eta), sigma_next)


def travel_back(
    x: Float[Tensor, "*b c h w"],
    fresh_noise: Float[Tensor, "*b c h w"],
    sigma: float,
    sigma_back: float,
) -> Float[Tensor, "*b c h w"]:
    """Return to a higher noise level: time travel (DDNM, Algorithm 2), on the straight path.

    ``c x + √(σ_back² − c²σ²) n`` with ``c = (1−σ_back) / (1−σ)`` has the picture's share and the
    noise's variance of the level that it returns to.
    """
    kept = (1 - sigma_back) / (1 - sigma)
    added = (sigma_back**2 - (kept * sigma) ** 2) ** 0.5
    return (kept * x).add_(fresh_noise, alpha=added)


def sigma_schedule(
    num_inference_steps: int,
    *,
    shift: float,
    start: float = 1.0,
    spacing: SigmaSpacing = "linear",
) -> tuple[float, ...]:
    """Return the ``num_inference_steps + 1`` noise levels of a run, from ``start`` down to 0.

    Even spacing of the unshifted time, moved by the resolution shift (SD3, Eq. 23). ``diffusers``
    is the spacing of its scheduler, which ends at the shifted image of 1/1000 and shifts that once
    more: it spends the whole last step on σ = .0089 (shift 3). ``linear`` ends at 0 and spends
    every step; passing diffusers the unshifted levels ``1 − i/n`` gives exactly these.
    """
    first = start / (shift - (shift - 1) * start)
    if spacing == "linear":
        times = [first * (1 - i / num_inference_steps) for i in range(num_inference_steps)]
    else:
        last = min(_shifted(1 / TRAINING_LEVELS, shift), first / num_inference_steps)
        gap = (first - last) / max(num_inference_steps - 1, 1)
        times = [first - i * gap for i in range(num_inference_steps)]
    return (*(_shifted(time, shift) for time in times), 0.0)


def time_travel(sigmas: tuple[float, ...], length: int, repeats: int) -> tuple[float, ...]:
    """Return the noise levels in the order of visiting them, some of them ``repeats`` times.

    After every ``length`` steps but the last, the walk goes back over them: 6 steps by 2, twice
    each, visit σ0 σ1 σ2 | σ0 σ1 σ2 σ3 σ4 | σ2 σ3 σ4 σ5 σ6 (DDNM, Algorithm 2). Length 0 is no
    travel.
    """
    walk = [sigmas[0]]
    last = len(sigmas) - 1
    for step in range(1, last + 1):
        walk.append(sigmas[step])
        if length and step % length == 0 and step < last:
            walk += sigmas[step - length : step + 1] * (repeats - 1)
    return tuple(walk)


def noise_to_add(sigma: float, carried: float) -> float:
    """Return the share of a level's noise that is still to be added to an estimate.

    One that carries noise of deviation ``carried`` of its own brings ``(1−σ)`` of it along; both
    together make the level (DDNM, Eq. 19).
    """
    brought = min(1.0, (1 - sigma) * carried / sigma)
    return math.sqrt(1 - brought**2)


def end_above(sigmas: tuple[float, ...], floor: float) -> tuple[float, ...]:
    """Return a walk drawn together so that no level but the last, 0, is below ``floor``."""
    levels = sigmas[:-1]
    low, high = min(levels), max(levels)
    if low >= floor:
        return sigmas
    # A walk that begins below keeps its order, within a thousandth.
    spread = max(high - floor, min(1e-3, 1 - floor))
    stretch = spread / (high - low) if high > low else 0.0
    return (*(floor + (sigma - low) * stretch for sigma in levels), 0.0)


def _shifted(time: float, shift: float) -> float:
    return shift * time / (1 + (shift - 1) * time)
