"""DDNM on a latent flow model: one sampling loop, written as the paper writes it.

The loop is a generator. It yields the network calls it needs and is sent their results, so that it
reads as one request's algorithm while whoever drives it is free to batch the calls of many
requests, to cut large ones into tiles, or to answer them from a closed form.

Source: Wang, Yu & Zhang, "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model",
arXiv 2212.00490; ``A†y + (I − A†A) x0`` is its Eq. 13.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from sr_engine.operators import Canvas, LinearOperator, project
from sr_engine.request import UpscaleParams
from sr_engine.sampling import (
    add_noise,
    guided_velocity,
    noise_from_velocity,
    take_step,
    x0_from_velocity,
)


@dataclass(frozen=True, slots=True)
class Denoise:
    """Asks for the velocity at ``latents`` [*b, c, h, w] and level ``sigma``."""

    latents: Tensor
    sigma: float
    negative: bool = False
    """Whether the negative prompt conditions it instead of the prompt."""


@dataclass(frozen=True, slots=True)
class Decode:
    """Asks for the pixels g'(``latents``) [*b, 3, H, W], nominally 0 to 1."""

    latents: Tensor
    draft: bool = False
    """Whether the cheaper autoencoder will do."""


@dataclass(frozen=True, slots=True)
class Encode:
    """Asks for the latents g(``pixels``), ``pixels`` [*b, 3, H, W] nominally 0 to 1."""

    pixels: Tensor
    draft: bool = False


NetworkCall = Denoise | Decode | Encode
Sampler = Generator[tuple[NetworkCall, ...], tuple[Tensor, ...], Tensor]
"""Yields calls that may run together, is sent their results in order, returns the picture."""


def restore(
    y: Float[Tensor, "*b c h w"],
    *,
    operator: LinearOperator,
    canvas: Canvas,
    sigmas: tuple[float, ...],
    draw_noise: Callable[[], Tensor],
    params: UpscaleParams,
) -> Sampler:
    """Sample a picture whose image under ``operator`` is ``y``.

    Args:
        y: the measurement, nominally 0 to 1.
        canvas: where the picture stands in what the networks see.
        sigmas: noise levels, from the first to 0.
        draw_noise: returns new unit noise in the shape of the latents.
        params: projection, at which steps, λ, η, guidance; whether the start is warm.

    Returns:
        The picture, before range and rounding. With every projection but ``none`` it agrees with
        ``y`` exactly: the last step ends in pixels, not in the latents of the seed's Eq. 2.
    """
    pinv_y = operator.pinv(y)
    x = draw_noise()
    if params.strength < 1:
        # Not from A†y alone, whose outermost pixels are far from any photograph's.
        guess = operator.interpolate(y)
        guess = guess + operator.pinv(y - operator.A(guess))
        (start,) = yield (Encode(canvas.extend(guess)),)
        x = add_noise(start, x, sigmas[0])
    pinv_latents: Tensor | None = None
    if params.projection == "latent" and any(projecting_steps(sigmas, params)):
        # By the autoencoder whose losses it has to cancel.
        (pinv_latents,) = yield (Encode(canvas.extend(pinv_y), params.draft),)

    def onto_measurement(pixels: Tensor) -> Tensor:
        return project(
            pixels,
            pinv_y=pinv_y,
            operator=operator,
            canvas=canvas,
            guidance_strength=params.guidance_strength,
        )

    x0 = x
    projecting = projecting_steps(sigmas, params)
    for (sigma, sigma_next), projects in zip(pairwise(sigmas), projecting, strict=True):
        velocity = yield from _velocity(x, sigma, params.guidance_scale)
        x0 = x0_from_velocity(x, velocity, sigma)
        if sigma_next == 0:
            break
        noise = noise_from_velocity(x, velocity, sigma)
        if not projects:
            pass
        elif params.projection == "latent":
            assert pinv_latents is not None
            x0 = yield from _correct_latents(x0, pinv_latents, operator, canvas, params)
        elif params.projection == "pixel":
            (pixels,) = yield (Decode(x0, params.draft),)
            (x0,) = yield (Encode(onto_measurement(pixels), params.draft),)
        else:
            (pixels,) = yield (Decode(x0, params.draft),)
            projected, unprojected = yield (
                Encode(onto_measurement(pixels), params.draft),
                Encode(pixels, params.draft),
            )
            x0 = x0 + projected - unprojected
        if params.rederive:
            noise = (x - (1 - sigma) * x0) / sigma
        x = take_step(x0, noise, draw_noise(), sigma_next, params.eta)

    (pixels,) = yield (Decode(x0),)
    return canvas.crop(pixels if params.projection == "none" else onto_measurement(pixels))


def projecting_steps(sigmas: tuple[float, ...], params: UpscaleParams) -> tuple[bool, ...]:
    """Say of each step whether it ends in a projection that costs network calls.

    The last never does: it ends in pixels.
    """
    last = len(sigmas) - 2
    return tuple(
        params.projection != "none"
        and i < last
        and (last - i) % params.projection_every == 0
        and sigma > params.projection_above
        for i, sigma in enumerate(sigmas[:-1])
    )


def _velocity(x: Tensor, sigma: float, guidance_scale: float) -> Sampler:
    if guidance_scale == 1:
        (velocity,) = yield (Denoise(x, sigma),)
        return velocity
    prompted, unprompted = yield (Denoise(x, sigma), Denoise(x, sigma, negative=True))
    return guided_velocity(prompted, unprompted, guidance_scale)


def _correct_latents(
    x0: Tensor,
    pinv_latents: Tensor,
    operator: LinearOperator,
    canvas: Canvas,
    params: UpscaleParams,
) -> Sampler:
    """``g(A†y) + λ (x0 − g(A†A g'(x0)))``: the seed repository's Eq. 2."""
    (pixels,) = yield (Decode(x0, params.draft),)
    seen = operator.pinv(operator.A(canvas.crop(pixels)))
    (range_latents,) = yield (Encode(canvas.extend(seen), params.draft),)
    return pinv_latents + params.guidance_strength * (x0 - range_latents)


def drive(sampler: Sampler, answer: Callable[[NetworkCall], Tensor]) -> Tensor:
    """Run one sampler alone, answering every call in turn, and return its picture."""
    calls = next(sampler)
    while True:
        try:
            calls = sampler.send(tuple(answer(call) for call in calls))
        except StopIteration as end:
            picture: Tensor = end.value
            return picture
