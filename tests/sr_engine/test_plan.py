"""A plan says beforehand exactly what the sampler will ask for."""

from dataclasses import replace

import torch
from fakes import FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st

from nullscale.maths.network_calls import Denoise
from nullscale.maths.operators import Canvas
from nullscale.maths.params import UpscaleParams
from nullscale.scheduling.costs import ROW_LIMITS, Costs
from nullscale.scheduling.work import UNLIMITED, Kind, Phase, Stage, TileLimits, Variant
from sr_engine.active import PHASES, ActiveRequest, OpenCall
from sr_engine.metrics import Metrics, PrometheusRecorder
from sr_engine.plan import VAE_TILE_PX, canvas_of, plan_stages, smaller_tiles, tiles_of
from sr_engine.request import UpscaleRequest
from sr_engine.runner import Runner


def kind_of(opened: OpenCall) -> Kind:
    draft = not isinstance(opened.call, Denoise) and opened.call.draft
    variant = Variant.DRAFT if draft else Variant.BASE
    return Kind(PHASES[type(opened.call)], opened.tiles[0].height, opened.tiles[0].width, variant)


PARAMS = st.builds(
    UpscaleParams,
    scale=st.sampled_from([1, 1.1, 2, 2.7, 4]),
    num_inference_steps=st.integers(1, 4),
    projection=st.sampled_from(["none", "latent", "pixel", "residual"]),
    guidance_scale=st.sampled_from([1.0, 3.0]),
    strength=st.sampled_from([0.4, 1.0]),
    projection_every=st.integers(1, 3),
    projection_above=st.sampled_from([0.0, 0.6]),
    draft=st.booleans(),
    sigma_spacing=st.sampled_from(["linear", "diffusers"]),
    ending=st.sampled_from(["pixels", "latents"]),
    sigma_y=st.sampled_from([0.0, 0.1]),
    travel_length=st.integers(0, 3),
    travel_repeats=st.integers(1, 3),
    seed=st.just(1),
)


@settings(max_examples=60, deadline=None)
@given(
    params=PARAMS,
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tiles=st.builds(TileLimits, *2 * [st.sampled_from([None, 8, 12, 16])]),
)
def test_the_plan_is_what_the_sampler_asks_for(
    params: UpscaleParams, height: int, width: int, tiles: TileLimits
) -> None:
    model = FakeModel(native_px=16)
    image = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).numpy()
    request = UpscaleRequest(request_id="a", image=image, params=params, tiles=tiles)
    runner = Runner(model, Costs(ROW_LIMITS), Metrics(PrometheusRecorder()))
    active = ActiveRequest(request, model)
    plan = plan_stages(request, model.info)
    for stage in plan:
        assert active.steps_done <= active.steps
        (kind,) = {kind_of(opened) for opened in active.open_calls}
        assert stage == Stage(kind, sum(len(opened.tiles) for opened in active.open_calls))
        for number in range(stage.rows):
            (result,) = runner.run(kind, [active.row(number)])
            active.complete(number, result)
    assert active.picture is not None
    assert active.steps_done == (active.steps if plan else 0)


@settings(max_examples=60, deadline=None)
@given(phase=st.sampled_from(Phase), height=st.integers(1, 400), width=st.integers(1, 400))
def test_smaller_tiles_shrink_one_network_s_to_a_quarter_and_no_further(
    phase: Phase, height: int, width: int
) -> None:
    info = FakeModel(native_px=64).info
    image = torch.zeros(height, width, 3, dtype=torch.uint8).numpy()
    request = UpscaleRequest(request_id="a", image=image, params=UpscaleParams(scale=2))
    canvas = canvas_of(request, info)
    native_px = 64 if phase is Phase.DENOISE else VAE_TILE_PX
    limits: TileLimits | None = UNLIMITED
    longest_px = []
    while limits is not None:
        (tile, *_) = tiles_of(phase, canvas, info, limits)
        longest_px.append(2 * max(tile.height, tile.width))
        other = Phase.DECODE if phase is Phase.DENOISE else Phase.DENOISE
        assert tiles_of(other, canvas, info, limits) == tiles_of(other, canvas, info)
        limits = smaller_tiles(Kind(phase, tile.height, tile.width), info, limits)
    assert longest_px == sorted(set(longest_px), reverse=True)
    assert len(longest_px) <= 3
    assert all(4 * side_px >= native_px for side_px in longest_px[1:])
    # It ended for want of a smaller tile, not before.
    assert 4 * longest_px[-1] == min(native_px, 4 * max(canvas.size))


@settings(max_examples=60, deadline=None)
@given(
    native=st.sampled_from([(1024, 8, 16), (128, 4, 8)]),
    phase=st.sampled_from(Phase),
    height=st.integers(1, 1200),
    width=st.integers(1, 1200),
)
def test_tiles_of_large_pictures_have_one_of_seven_sides(
    native: tuple[int, int, int], phase: Phase, height: int, width: int
) -> None:
    native_px, vae_factor, multiple_px = native
    info = replace(
        FakeModel().info, native_px=native_px, vae_factor=vae_factor, multiple_px=multiple_px
    )
    canvas = Canvas((4 * height, 4 * width), multiple_px)
    longest_px = native_px if phase is Phase.DENOISE else max(native_px, VAE_TILE_PX)
    (tile, *_) = tiles_of(phase, canvas, info)
    for cells, side_px in zip((tile.height, tile.width), canvas.size, strict=True):
        length_px = cells * vae_factor
        assert length_px % multiple_px == 0
        if side_px <= longest_px:
            assert length_px == side_px
        else:
            assert 16 * length_px in {longest_px * n for n in range(10, 17)}
