"""DDNM on a latent flow model: one sampling loop, written as the paper writes it.

The loop is a generator. It yields the network calls it needs and is sent their results, so that it
reads as one request's algorithm while whoever drives it is free to batch the calls of many
requests, to cut large ones into tiles, or to answer them from a closed form.

Source: Wang, Yu & Zhang, "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model",
arXiv 2212.00490; ``A†y + (I − A†A) x0`` is its Eq. 13.
"""

import math
from collections.abc import Callable
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from nullscale.errors import InvalidResult
from nullscale.maths.correction import Measurement
from nullscale.maths.network_calls import Decode, Denoise, Encode, NetworkCall, Sampler
from nullscale.maths.operators import Canvas, LinearOperator
from nullscale.maths.params import UpscaleParams
from nullscale.maths.sampling import (
    add_noise,
    end_above,
    guided_velocity,
    noise_from_velocity,
    noise_to_add,
    take_step,
    travel_back,
    x0_from_velocity,
)


def restore(
    y: Float[Tensor, "*b c h w"],
    *,
    operator: LinearOperator,
    canvas: Canvas,
    sigmas: tuple[float, ...],
    draw_noise: Callable[[], Tensor],
    params: UpscaleParams,
    probe: Tensor | None = None,
) -> Sampler:
    """Sample a picture whose image under ``operator`` is ``y``.

    Args:
        y: the measurement, nominally 0 to 1.
        canvas: where the picture stands in what the networks see.
        sigmas: noise levels in the order of visiting, from the first to 0; where the next is higher
            than the present one, noise is added again (time travel). Where ``params`` are
            `tolerant` they are raised to end at the level of the measurement's noise.
        draw_noise: returns new unit noise in the shape of the latents.
        params: projection, at which steps, λ, η, guidance, noise of ``y``; whether the start is
            warm.
        probe: unit noise in the shape of ``y``, to see what the noise of ``y`` does to latents;
            needed where ``params`` are `tolerant`.

    Returns:
        The picture, before range and rounding. Where ``params`` are `consistent` it agrees with
        ``y`` exactly: the last step ends in pixels.

    Raises:
        InvalidResult: the noise of ``y`` makes latents that are not finite.
    """
    measured = Measurement(operator, canvas, operator.pinv(y), params)
    x = draw_noise()
    kappa = 0.0
    projecting = iter(projecting_steps(sigmas, params))
    if params.tolerant:
        assert probe is not None
        kappa = float((yield from measured.noise_in_latents(probe)))
        if not math.isfinite(kappa):
            raise InvalidResult("the model produced latents with non-finite samples")
        sigmas = end_above(sigmas, kappa / (1 + kappa))
    if params.strength < 1:
        # Not from A†y alone, whose outermost pixels are far from any photograph's.
        guess = canvas.extend(operator.interpolate(y))
        (start,) = yield (Encode(measured.project(guess, guidance_strength=1)),)
        x = add_noise(start, noise_to_add(sigmas[0], kappa) * x, sigmas[0])
    x0 = x
    for sigma, sigma_next in pairwise(sigmas):
        if sigma_next > sigma:
            x = travel_back(x, draw_noise(), sigma, sigma_next)
            continue
        velocity = yield from _velocity(x, sigma, params.guidance_scale)
        x0 = x0_from_velocity(x, velocity, sigma)
        noise = noise_from_velocity(x, velocity, sigma)
        projects = next(projecting)
        if projects:
            x0 = yield from measured.correct(x0, draft=params.draft and sigma_next > 0)
        if sigma_next == 0:
            break
        if params.rederive:
            noise = (x - (1 - sigma) * x0) / sigma
        kept = noise_to_add(sigma_next, kappa if projects else 0.0)
        x = take_step(x0, kept * noise, kept * draw_noise(), sigma_next, params.eta)

    (pixels,) = yield (Decode(x0),)
    return canvas.crop(measured.project(pixels) if params.consistent else pixels)


def projecting_steps(sigmas: tuple[float, ...], params: UpscaleParams) -> tuple[bool, ...]:
    """Say of each denoising step whether it ends in a projection that costs network calls.

    The last does only where the picture ends in latents. Where nothing is projected in pixels after
    it, the last that may does in any case: a picture of the prior alone would answer nobody.

    Args:
        sigmas: the schedule, as it is before noise of the input raises it.
    """
    levels = [sigma for sigma, sigma_next in pairwise(sigmas) if sigma_next <= sigma]
    last = len(levels) - 1
    closing = last
    if params.tolerant:
        # At the noise's own level an estimate is free; a warm start has seen the input before.
        closing = last - 1 if last or params.strength < 1 else last
    return tuple(
        params.projection != "none"
        and (
            (i == closing and not params.consistent)
            or (
                i < last
                and (last - i) % params.projection_every == 0
                and s > params.projection_above
            )
        )
        for i, s in enumerate(levels)
    )


def _velocity(x: Tensor, sigma: float, guidance_scale: float) -> Sampler:
    if guidance_scale == 1:
        (velocity,) = yield (Denoise(x, sigma),)
        return velocity
    prompted, unprompted = yield (Denoise(x, sigma), Denoise(x, sigma, negative=True))
    return guided_velocity(prompted, unprompted, guidance_scale)


def drive(sampler: Sampler, answer: Callable[[NetworkCall], Tensor]) -> Tensor:
    """Run one sampler alone, answering every call in turn, and return its picture."""
    calls = next(sampler)
    while True:
        try:
            calls = sampler.send(tuple(answer(call) for call in calls))
        except StopIteration as end:
            picture: Tensor = end.value
            return picture
