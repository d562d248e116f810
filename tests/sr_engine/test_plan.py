"""A plan says beforehand exactly what the sampler will ask for."""

import torch
from fakes import FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_engine.active import PHASES, ActiveRequest, OpenCall
from sr_engine.costs import ROW_LIMITS, Costs
from sr_engine.ddnm import Denoise
from sr_engine.metrics import Metrics, PrometheusRecorder
from sr_engine.plan import plan_stages
from sr_engine.request import UpscaleParams, UpscaleRequest
from sr_engine.runner import Runner
from sr_engine.work import Kind, Stage, Variant


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
    seed=st.just(1),
)


@settings(max_examples=60, deadline=None)
@given(params=PARAMS, height=st.integers(1, 40), width=st.integers(1, 40))
def test_the_plan_is_what_the_sampler_asks_for(
    params: UpscaleParams, height: int, width: int
) -> None:
    model = FakeModel(native_px=16)
    image = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).numpy()
    request = UpscaleRequest(request_id="a", image=image, params=params)
    runner = Runner(model, Costs(ROW_LIMITS), Metrics(PrometheusRecorder()))
    active = ActiveRequest(request, model)
    for stage in plan_stages(request, model.info):
        (kind,) = {kind_of(opened) for opened in active.open_calls}
        assert stage == Stage(kind, sum(len(opened.tiles) for opened in active.open_calls))
        for number in range(stage.rows):
            (result,) = runner.run(kind, [active.row(number)])
            active.complete(number, result)
    assert active.picture is not None
