"""Rectified-flow sampling: identities between x, x0, noise and velocity, and the noise levels.

Notation of SD3 (Esser et al., 2024, arXiv 2403.03206): ``x_σ = (1−σ)·x0 + σ·ε`` with velocity
``v = ε − x0``; σ runs from 1 (noise) to 0 (picture).
"""

from jaxtyping import Float
from torch import Tensor


def add_noise(
    x0: Float[Tensor, "*b c h w"], noise: Float[Tensor, "*b c h w"], sigma: float
) -> Float[Tensor, "*b c h w"]:
    """Return ``x_σ``, the straight path between picture and noise (SD3, Eq. 13)."""
    return ((1 - sigma) * x0).add_(noise, alpha=sigma)


def x0_from_velocity(
    x: Float[Tensor, "*b c h w"], velocity: Float[Tensor, "*b c h w"], sigma: float
) -> Float[Tensor, "*b c h w"]:
    """Return the clean latents that ``velocity`` predicts from ``x`` at level ``sigma``."""
    return x - sigma * velocity


def noise_from_velocity(
    x: Float[Tensor, "*b c h w"], velocity: Float[Tensor, "*b c h w"], sigma: float
) -> Float[Tensor, "*b c h w"]:
    """Return the noise that ``velocity`` predicts from ``x`` at level ``sigma``."""
    return x + (1 - sigma) * velocity


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


def sigma_schedule(
    num_inference_steps: int, *, shift: float, start: float = 1.0
) -> tuple[float, ...]:
    """Return the ``num_inference_steps + 1`` noise levels of a run, from ``start`` down to 0.

    Even spacing of the unshifted time, moved by the resolution shift (SD3, Eq. 23). diffusers'
    default spacing ends at the shifted image of 1/1000 and shifts that once more, which spends the
    whole last step on σ = .0089 (shift 3); we end at 0 and spend every step. Passing diffusers the
    unshifted levels ``1 − i/n`` gives exactly these.
    """
    first = start / (shift - (shift - 1) * start)
    times = [first * (1 - i / num_inference_steps) for i in range(num_inference_steps + 1)]
    return tuple(shift * t / (1 + (shift - 1) * t) for t in times)
