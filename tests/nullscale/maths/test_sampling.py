"""Flow identities as properties, and the noise levels against diffusers' own scheduler."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nullscale.maths.params import UpscaleParams
from nullscale.maths.sampling import (
    SigmaSpacing,
    add_noise,
    end_above,
    guided_velocity,
    noise_from_velocity,
    noise_to_add,
    sigma_schedule,
    take_step,
    time_travel,
    travel_back,
    x0_from_velocity,
)

untimed = settings(deadline=None, max_examples=50)
levels = st.floats(0.0, 1.0)
seeds = st.integers(0, 2**32 - 1)
step_counts = st.integers(1, 60)
shifts = st.floats(1, 6)
starts = st.floats(0.01, 1)


def tensors(seed: int, count: int, shape: tuple[int, ...] = (2, 3, 4, 5)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


@untimed
@given(seeds, levels)
def test_the_true_velocity_gives_picture_and_noise_back(seed: int, sigma: float) -> None:
    x0, noise = tensors(seed, 2)
    x = add_noise(x0, noise, sigma)
    torch.testing.assert_close(x0_from_velocity(x, noise - x0, sigma), x0)
    torch.testing.assert_close(noise_from_velocity(x, noise - x0, sigma), noise)


@untimed
@given(seeds, levels)
def test_any_velocity_gives_a_pair_that_lies_on_the_path(seed: int, sigma: float) -> None:
    x, velocity = tensors(seed, 2)
    x0 = x0_from_velocity(x, velocity, sigma)
    noise = noise_from_velocity(x, velocity, sigma)
    torch.testing.assert_close(add_noise(x0, noise, sigma), x)
    torch.testing.assert_close(noise - x0, velocity)


def test_the_path_runs_from_picture_to_noise() -> None:
    x0, noise = tensors(0, 2)
    torch.testing.assert_close(add_noise(x0, noise, 0.0), x0, rtol=0, atol=0)
    torch.testing.assert_close(add_noise(x0, noise, 1.0), noise, rtol=0, atol=0)
    torch.testing.assert_close(add_noise(x0, noise, 0.25), 0.75 * x0 + 0.25 * noise)


@untimed
@given(seeds, levels, levels)
def test_a_step_without_fresh_noise_is_eulers(seed: int, sigma: float, share: float) -> None:
    x, velocity, fresh = tensors(seed, 3)
    sigma_next = share * sigma
    x0 = x0_from_velocity(x, velocity, sigma)
    noise = noise_from_velocity(x, velocity, sigma)
    euler = x + (sigma_next - sigma) * velocity
    torch.testing.assert_close(take_step(x0, noise, fresh, sigma_next, 0.0), euler)


@untimed
@given(levels, levels)
def test_a_step_keeps_the_noise_at_its_level(sigma: float, eta: float) -> None:
    """Fed the unit vectors of both noises, a step is its own matrix: its rows' squares add up."""
    kept, fresh = torch.eye(2, dtype=torch.float64).reshape(2, 2, 1, 1, 1)
    (x0,) = tensors(0, 1, (1, 1, 1))
    rows = take_step(x0.expand(2, 1, 1, 1), kept, fresh, sigma, eta) - (1 - sigma) * x0
    assert float(rows.square().sum()) == pytest.approx(sigma**2, abs=1e-12)
    assert float(rows[1].abs()) == pytest.approx(sigma * eta, abs=1e-12)


def test_a_whole_share_of_fresh_noise_forgets_the_old() -> None:
    x0, noise, fresh = tensors(0, 3)
    torch.testing.assert_close(take_step(x0, noise, fresh, 0.4, 1.0), 0.6 * x0 + 0.4 * fresh)


@untimed
@given(seeds, st.floats(0, 20))
def test_guidance_runs_along_the_line_through_both_velocities(seed: int, scale: float) -> None:
    prompted, unprompted = tensors(seed, 2)
    guided = guided_velocity(prompted, unprompted, scale)
    torch.testing.assert_close(guided - unprompted, scale * (prompted - unprompted))
    torch.testing.assert_close(guided_velocity(prompted, unprompted, 0.0), unprompted)
    torch.testing.assert_close(guided_velocity(prompted, unprompted, 1.0), prompted)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 28, 50])
def test_sigmas_are_those_of_diffusers_given_even_levels(steps: int, shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps).tolist())
    assert sigma_schedule(steps, shift=shift) == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)


def test_eight_sigmas_at_shift_three() -> None:
    golden = (1, 21 / 22, 0.9, 5 / 6, 0.75, 9 / 14, 0.5, 0.3, 0)
    assert sigma_schedule(8, shift=3.0) == pytest.approx(golden, abs=1e-12)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 4, 8, 28, 50])
def test_sigmas_in_the_spacing_of_diffusers(steps: int, shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    found = sigma_schedule(steps, shift=shift, spacing="diffusers")
    assert found == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)


def test_diffusers_default_spacing_spends_its_last_step_on_nothing() -> None:
    """The departure from diffusers, and that it is one still."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(8)
    default = (1, 0.9475, 0.8828, 0.8008, 0.6938, 0.5480, 0.3380, 0.0089, 0)
    assert scheduler.sigmas.tolist() == pytest.approx(default, abs=1e-4)
    assert sigma_schedule(8, shift=3.0)[-2] == pytest.approx(0.3)


@untimed
@given(step_counts, shifts, starts, st.sampled_from(["linear", "diffusers"]))
def test_sigmas_fall_from_the_start_to_nothing(
    steps: int, shift: float, start: float, spacing: SigmaSpacing
) -> None:
    sigmas = sigma_schedule(steps, shift=shift, start=start, spacing=spacing)
    assert len(sigmas) == steps + 1
    assert sigmas[0] == pytest.approx(start, rel=1e-12)
    assert sigmas[-1] == 0
    assert list(sigmas) == sorted(set(sigmas), reverse=True)


@untimed
@given(step_counts, shifts)
def test_a_run_from_pure_noise_starts_exactly_at_one(steps: int, shift: float) -> None:
    """A start a rounding error below 1 would be a warm start, which encodes ``A†y``."""
    assert sigma_schedule(steps, shift=shift)[0] == 1


@untimed
@given(step_counts, shifts, starts)
def test_unshifted_sigmas_are_evenly_spaced(steps: int, shift: float, start: float) -> None:
    sigmas = np.array(sigma_schedule(steps, shift=shift, start=start))
    times = sigmas / (shift - (shift - 1) * sigmas)
    np.testing.assert_allclose(np.diff(times), -times[0] / steps, rtol=1e-9)


@untimed
@given(levels, levels)
def test_time_travel_keeps_picture_and_noise_at_their_levels(one: float, other: float) -> None:
    """Fed the unit vectors of both noises, as a step is above."""
    sigma, back = sorted((0.99 * one, 0.99 * other))
    kept, fresh = torch.eye(2, dtype=torch.float64).reshape(2, 2, 1, 1, 1)
    (x0,) = tensors(0, 1, (1, 1, 1))
    x = add_noise(x0.expand(2, 1, 1, 1), kept, sigma)
    rows = travel_back(x, fresh, sigma, back) - (1 - back) * x0
    assert float(rows.square().sum()) == pytest.approx(back**2, abs=1e-12)


def test_a_walk_with_time_travel() -> None:
    levels = (6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0)
    assert time_travel(levels, 2, 2) == (6, 5, 4, 6, 5, 4, 3, 2, 4, 3, 2, 1, 0)
    assert time_travel(levels, 4, 3) == (6, 5, 4, 3, 2, 6, 5, 4, 3, 2, 6, 5, 4, 3, 2, 1, 0)


@untimed
@given(step_counts, st.integers(0, 70), st.integers(1, 5))
def test_a_walk_takes_the_steps_that_are_said(steps: int, length: int, repeats: int) -> None:
    walk = time_travel(sigma_schedule(steps, shift=3.0), length, repeats)
    down = sum(later < level for level, later in pairwise(walk))
    params = UpscaleParams(num_inference_steps=steps, travel_length=length, travel_repeats=repeats)
    assert down == params.denoising_steps
    assert walk.count(0.0) == 1 and walk[-1] == 0
    if repeats == 1 or not length:
        assert walk == sigma_schedule(steps, shift=3.0)


@untimed
@given(st.floats(0.001, 1), st.floats(0, 10))
def test_noise_that_is_there_and_noise_that_is_added_make_the_level(
    sigma: float, carried: float
) -> None:
    brought, added = (1 - sigma) * carried, sigma * noise_to_add(sigma, carried)
    if brought <= sigma:
        assert brought**2 + added**2 == pytest.approx(sigma**2)
    else:
        assert added == 0


@untimed
@given(step_counts, st.integers(0, 8), st.integers(1, 3), starts, st.floats(0, 0.99))
def test_a_walk_that_ends_above_a_level_is_the_same_walk(
    steps: int, length: int, repeats: int, start: float, floor: float
) -> None:
    walk = time_travel(sigma_schedule(steps, shift=3.0, start=start), length, repeats)
    drawn = end_above(walk, floor)
    assert drawn[-1] == 0 and max(drawn) <= 1
    assert min(drawn[:-1]) >= min(floor, min(walk[:-1])) - 1e-12
    for (a, b), (c, d) in zip(pairwise(walk), pairwise(drawn), strict=True):
        assert (a < b) == (c < d)
    if min(walk[:-1]) >= floor:
        assert drawn == walk
    elif max(walk) > floor:
        assert drawn[0] == pytest.approx(walk[0], abs=1.1e-3) and min(drawn[:-1]) == pytest.approx(
            floor
        )
