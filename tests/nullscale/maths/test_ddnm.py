"""What the sampler guarantees and what it asks for, on networks of a few lines."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from dense_operator import DenseOperator
from torch import Tensor

from nullscale.maths.ddnm import drive, restore
from nullscale.maths.network_calls import Decode, Denoise, Encode, NetworkCall, Sampler
from nullscale.maths.operators import AveragePooling, BicubicDownscale, Canvas, LinearOperator
from nullscale.maths.params import Projection, UpscaleParams
from nullscale.maths.sampling import sigma_schedule, time_travel

CONSISTENT: tuple[Projection, ...] = ("latent", "pixel", "residual")
SIGMAS = sigma_schedule(4, shift=3.0)
DENSE = DenseOperator(np.random.default_rng(0).normal(size=(6, 35)) / 6, (5, 7), (2, 3))
OPERATORS: dict[str, LinearOperator] = {
    "any matrix": DENSE,
    "bicubic, canvas larger than the picture": BicubicDownscale((3, 5), 2.7),
    "average pooling": AveragePooling((2, 3), 4),
}


@dataclass(slots=True)
class Networks:
    """Networks without weights, of no particular quality, and a record of what was asked of them.

    The autoencoder halves each side and is not lossless; the latents have six channels.
    """

    lossless: bool = False
    calls: list[NetworkCall] = field(default_factory=list)

    def __call__(self, call: NetworkCall) -> Tensor:
        self.calls.append(call)
        match call:
            case Denoise(latents, sigma, negative):
                return torch.tanh(latents.roll(1, -1)) * (1 + sigma) + 0.3 * negative
            case Decode(latents):
                return latents if self.lossless else 1.2 * latents.repeat_interleave(2, -1) - 0.5
            case Encode(pixels):
                return pixels if self.lossless else 0.7 * torch.sin(pixels[..., 1::2]) + 0.2


def run(
    params: UpscaleParams,
    *,
    networks: Networks | None = None,
    operator: LinearOperator = DENSE,
    y: Tensor | None = None,
    sigmas: tuple[float, ...] = SIGMAS,
    seed: int = 0,
) -> Tensor:
    networks = networks or Networks()
    canvas = Canvas(operator.image_size, 4)
    y = measurement(operator) if y is None else y
    height, width = canvas.size
    shape = (3, height, width if networks.lossless else width // 2)
    generator = torch.Generator().manual_seed(seed)
    sampler = restore(
        y,
        operator=operator,
        canvas=canvas,
        sigmas=sigmas,
        draw_noise=lambda: torch.randn((*y.shape[:-3], *shape), generator=generator).to(y),
        params=params,
    )
    return drive(sampler, networks)


def measurement(operator: LinearOperator, *batch: int) -> Tensor:
    """A measurement that strays well outside 0 to 1, which only a linear operator returns."""
    generator = torch.Generator().manual_seed(1)
    shape = (*batch, 3, *operator.measurement_size)
    return 3 * torch.randn(shape, generator=generator, dtype=torch.float64)


SETTINGS = [
    UpscaleParams(projection=projection, **settings)
    for projection in CONSISTENT
    for settings in (
        {"eta": 0.85},
        {"eta": 0.0, "guidance_strength": 0.6, "rederive": True},
        {"eta": 1.0, "guidance_strength": 1.5, "guidance_scale": 4.0},
    )
]


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
@pytest.mark.parametrize("start", [1.0, 0.5])
def test_the_picture_gives_the_measurement_back(operator: LinearOperator, start: float) -> None:
    y, sigmas = measurement(operator), sigma_schedule(3, shift=3.0, start=start)
    for params in SETTINGS:
        warm = params.override({"strength": start})
        picture = run(warm, operator=operator, sigmas=sigmas)
        assert picture.shape == (3, *operator.image_size)
        torch.testing.assert_close(operator.A(picture), y, rtol=0, atol=1e-9)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_without_projection_it_does_not(operator: LinearOperator) -> None:
    picture = run(UpscaleParams(projection="none"), operator=operator)
    assert picture.shape == (3, *operator.image_size)
    assert float((operator.A(picture) - measurement(operator)).abs().max()) > 0.5


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
@pytest.mark.parametrize("projection", CONSISTENT)
def test_without_generated_detail_it_is_the_pseudo_inverse(
    operator: LinearOperator, projection: Projection
) -> None:
    picture = run(UpscaleParams(projection=projection, guidance_strength=0.0), operator=operator)
    torch.testing.assert_close(picture, operator.pinv(measurement(operator)))


def test_a_single_step_is_one_projection_of_what_the_model_sees_in_noise() -> None:
    networks = Networks()
    found = run(UpscaleParams(), networks=networks, sigmas=(1.0, 0.0))
    noise = torch.randn((3, 8, 4), generator=torch.Generator().manual_seed(0)).double()
    decoded = networks(Decode(noise - networks(Denoise(noise, 1.0))))[..., :5, :7].flatten(-2)
    A = torch.from_numpy(DENSE.matrix)
    y = measurement(DENSE).flatten(-2)
    known = decoded + (y - decoded @ A.T) @ torch.linalg.pinv(A).T
    torch.testing.assert_close(found, known.unflatten(-1, (5, 7)))


@pytest.mark.parametrize("guidance_strength", [1.0, 0.7])
def test_with_a_lossless_autoencoder_the_projections_coincide(guidance_strength: float) -> None:
    pictures = [
        run(
            UpscaleParams(projection=projection, guidance_strength=guidance_strength),
            networks=Networks(lossless=True),
        )
        for projection in CONSISTENT
    ]
    torch.testing.assert_close(pictures[1], pictures[0])
    torch.testing.assert_close(pictures[2], pictures[0])
    plain = run(UpscaleParams(projection="none"), networks=Networks(lossless=True))
    assert float((plain - pictures[0]).abs().max()) > 0.1


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize(
    ("projection", "once", "decodes", "encodes"),
    [("none", 0, 0, 0), ("latent", 1, 1, 1), ("pixel", 0, 1, 1), ("residual", 0, 1, 2)],
)
def test_calls_of_a_run(
    projection: Projection, once: int, decodes: int, encodes: int, steps: int
) -> None:
    """Every step but the last corrects its estimate; the last decodes and encodes nothing."""
    networks = Networks()
    run(
        UpscaleParams(projection=projection),
        networks=networks,
        sigmas=sigma_schedule(steps, shift=3.0),
    )
    assert Counter(type(call) for call in networks.calls) == Counter(
        {
            Denoise: steps,
            Decode: (steps - 1) * decodes + 1,
            Encode: once * (steps > 1) + (steps - 1) * encodes,
        }
    )
    assert isinstance(networks.calls[-2], Denoise) and isinstance(networks.calls[-1], Decode)


@pytest.mark.parametrize("projection", ["none", "latent", "pixel", "residual"])
def test_a_warm_start_encodes_a_consistent_interpolation(projection: Projection) -> None:
    networks = Networks()
    sigmas = sigma_schedule(1, shift=3.0, start=0.4)
    operator = BicubicDownscale((5, 7), 2)
    params = UpscaleParams(projection=projection, strength=0.4)
    run(params, operator=operator, networks=networks, sigmas=sigmas)
    first, second, third = networks.calls
    assert isinstance(first, Encode) and isinstance(second, Denoise) and isinstance(third, Decode)
    y, start = measurement(operator), first.pixels[..., :10, :14]
    torch.testing.assert_close(operator.A(start), y, rtol=0, atol=1e-9)
    seen = operator.pinv(operator.A(operator.interpolate(y)))
    torch.testing.assert_close(start, operator.interpolate(y) + operator.pinv(y) - seen)
    noise = torch.randn((3, 12, 8), generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(second.latents, 0.6 * networks(first) + 0.4 * noise)


def test_the_denoiser_is_asked_at_every_level_but_the_last() -> None:
    networks = Networks()
    run(UpscaleParams(), networks=networks)
    levels = [call.sigma for call in networks.calls if isinstance(call, Denoise)]
    assert levels == list(SIGMAS[:-1])
    assert not any(call.negative for call in networks.calls if isinstance(call, Denoise))


def test_guidance_asks_for_both_velocities_together() -> None:
    sampler = restore(
        measurement(DENSE),
        operator=DENSE,
        canvas=Canvas((5, 7), 4),
        sigmas=SIGMAS,
        draw_noise=lambda: torch.ones(3, 8, 4, dtype=torch.float64),
        params=UpscaleParams(guidance_scale=3.0),
    )
    calls = next(sampler)
    latents = torch.ones(3, 8, 4, dtype=torch.float64)
    assert len(calls) == 2
    for call, negative in zip(calls, (False, True), strict=True):
        assert isinstance(call, Denoise) and (call.sigma, call.negative) == (1, negative)
        assert torch.equal(call.latents, latents)
    (decode,) = sampler.send((0.25 * latents, 0.5 * latents))
    assert isinstance(decode, Decode)
    torch.testing.assert_close(decode.latents, (1 - (0.5 + 3 * (0.25 - 0.5))) * latents)


def test_the_residual_projection_asks_for_both_encodings_together() -> None:
    sampler = restore(
        measurement(DENSE),
        operator=DENSE,
        canvas=Canvas((5, 7), 4),
        sigmas=SIGMAS,
        draw_noise=lambda: torch.ones(3, 8, 4, dtype=torch.float64),
        params=UpscaleParams(projection="residual"),
    )
    networks = Networks()
    calls = next(sampler)
    while len(calls) == 1:
        calls = sampler.send((networks(calls[0]),))
    projected, unprojected = calls
    assert isinstance(projected, Encode) and isinstance(unprojected, Encode)
    torch.testing.assert_close(
        DENSE.A(projected.pixels[..., :5, :7]), measurement(DENSE), rtol=0, atol=1e-9
    )
    decode = networks.calls[-1]
    torch.testing.assert_close(unprojected.pixels, networks(decode))


def test_the_noise_alone_decides_the_picture() -> None:
    params = UpscaleParams()
    assert torch.equal(run(params, seed=5), run(params, seed=5))
    assert float((run(params, seed=5) - run(params, seed=6)).abs().max()) > 0.1


def test_fresh_noise_matters_with_eta_and_only_then() -> None:
    def with_later_noise(eta: float, later: float) -> Tensor:
        drawn = iter([torch.ones(3, 8, 4, dtype=torch.float64)])
        sampler = restore(
            measurement(DENSE),
            operator=DENSE,
            canvas=Canvas((5, 7), 4),
            sigmas=SIGMAS,
            draw_noise=lambda: next(drawn, torch.full((3, 8, 4), later, dtype=torch.float64)),
            params=UpscaleParams(eta=eta),
        )
        return drive(sampler, Networks())

    assert torch.equal(with_later_noise(0.0, 1.0), with_later_noise(0.0, -1.0))
    assert not torch.allclose(with_later_noise(0.5, 1.0), with_later_noise(0.5, -1.0))


@pytest.mark.parametrize("params", SETTINGS)
def test_a_batch_is_its_rows(params: UpscaleParams) -> None:
    y = measurement(DENSE, 2)
    together = run(params, y=y)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn((2, 3, 8, 4), generator=generator).double() for _ in SIGMAS[:-1]]
    for row in range(2):
        noises = iter([noise[row] for noise in drawn])
        sampler = restore(
            y[row],
            operator=DENSE,
            canvas=Canvas((5, 7), 4),
            sigmas=SIGMAS,
            draw_noise=noises.__next__,
            params=params,
        )
        torch.testing.assert_close(drive(sampler, Networks()), together[row])


@pytest.mark.parametrize("rederive", [False, True])
def test_the_noise_of_a_step(rederive: bool) -> None:
    """The second level's input, from the first step's answers: which noise it carries."""
    networks = Networks()
    params = UpscaleParams(eta=0.0, rederive=rederive, strength=0.8)
    sigmas = sigma_schedule(2, shift=3.0, start=0.8)
    run(params, networks=networks, sigmas=sigmas)
    _, first, _, encode, second, _ = networks.calls
    assert isinstance(first, Denoise) and isinstance(second, Denoise)
    x, corrected, sigma, sigma_next = first.latents, networks(encode), first.sigma, second.sigma
    estimate = corrected if rederive else x - sigma * networks(first)
    noise = (x - (1 - sigma) * estimate) / sigma
    torch.testing.assert_close(second.latents, (1 - sigma_next) * corrected + sigma_next * noise)


@pytest.mark.parametrize("projection", CONSISTENT)
def test_an_ending_in_latents_is_the_decoded_correction(projection: Projection) -> None:
    networks, once = Networks(), Networks()
    params = UpscaleParams(projection=projection, ending="latents")
    picture = run(params, networks=networks)
    run(params.override({"ending": "pixels"}), networks=once)
    extra = {"latent": 2, "pixel": 2, "residual": 3}[projection]
    assert len(networks.calls) == len(once.calls) + extra
    *_, last = networks.calls
    assert isinstance(last, Decode)
    assert torch.equal(picture, networks(last)[..., :5, :7])
    assert float((DENSE.A(picture) - measurement(DENSE)).abs().max()) > 0.1


def test_without_a_projection_noise_is_of_no_account() -> None:
    noisy = run(UpscaleParams(projection="none", sigma_y=0.5))
    assert torch.equal(noisy, run(UpscaleParams(projection="none")))


def test_time_travel_asks_again() -> None:
    networks = Networks()
    walk = time_travel(SIGMAS, 2, 3)
    picture = run(UpscaleParams(), networks=networks, sigmas=walk)
    levels = [call.sigma for call in networks.calls if isinstance(call, Denoise)]
    a, b, c, d, _ = SIGMAS
    assert levels == [a, b, a, b, a, b, c, d]
    torch.testing.assert_close(DENSE.A(picture), measurement(DENSE), rtol=0, atol=1e-9)


def test_nothing_is_clipped() -> None:
    """Where the networks are linear, the picture grows with measurement and noise."""

    def answer(call: NetworkCall) -> Tensor:
        if isinstance(call, Denoise):
            return 0.4 * call.latents.roll(1, -1)
        return 1.1 * call.latents if isinstance(call, Decode) else 0.8 * call.pixels

    def scaled(factor: float, params: UpscaleParams) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        sampler = restore(
            factor * measurement(DENSE),
            operator=DENSE,
            canvas=Canvas((5, 7), 4),
            sigmas=SIGMAS,
            draw_noise=lambda: factor * torch.randn((3, 8, 8), generator=generator).double(),
            params=params,
        )
        return drive(sampler, answer)

    for params in (*SETTINGS, UpscaleParams(projection="none")):
        once = scaled(1, params)
        assert float(once.min()) < 0 and float(once.max()) > 1
        torch.testing.assert_close(scaled(100, params), 100 * once)
        torch.testing.assert_close(scaled(-1, params), -once)


def test_drive_answers_in_order_and_returns_the_end() -> None:
    def sampler() -> Sampler:
        a, b = yield (Decode(torch.full((1, 1, 1), 5.0)), Decode(torch.full((1, 1, 1), 2.0)))
        (c,) = yield (Decode(a - b),)
        return 2 * c

    def answer(call: NetworkCall) -> Tensor:
        assert isinstance(call, Decode)
        return 3 * call.latents

    assert float(drive(sampler(), answer)) == 54
