"""The batched engine against a plain loop, and what becomes of requests that end early."""

import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import count, cycle
from typing import Any

import numpy as np
import pytest
import torch
from baselines import plain_loop, request_batch
from fakes import FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from nullscale.errors import (
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    InvalidParameter,
    InvalidResult,
    OutOfMemory,
    RequestAborted,
)
from nullscale.maths.params import Projection, UpscaleParams
from nullscale.scheduling.work import TileLimits, Variant
from sr_engine.engine import SREngine
from sr_engine.events import Event, RequestFailure, StepEvent, UpscaleResult
from sr_engine.metrics import Metrics, PrometheusRecorder
from sr_engine.model import PromptEmbeddings
from sr_engine.plan import plan_stages
from sr_engine.request import UpscaleRequest


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    smooth = np.random.default_rng(seed).random((4, 4, 3)).astype(np.float32)
    field = torch.nn.functional.interpolate(
        torch.from_numpy(smooth).permute(2, 0, 1)[None], size=(height, width), mode="bilinear"
    )
    return (field[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def request(request_id: str, image: np.ndarray, **params: object) -> UpscaleRequest:
    defaults = UpscaleParams(num_inference_steps=3, scale=2, seed=1)
    return UpscaleRequest(request_id=request_id, image=image, params=defaults.override(params))


def run(engine: SREngine) -> list[Event]:
    events: list[Event] = []
    while engine.has_work():
        events += engine.step()
    return events


def results(events: list[Event]) -> dict[str, UpscaleResult]:
    return {e.request_id: e for e in events if isinstance(e, UpscaleResult)}


MIX = {
    "plain": request("plain", picture(8, 8)),
    "odd": request("odd", picture(7, 5), scale=2.7, num_inference_steps=2, projection="latent"),
    "dot": request("dot", picture(1, 1), projection="residual", eta=0.0, seed=3),
    "guided": request("guided", picture(8, 8), guidance_scale=3.0, prompt="leaf", seed=4),
    "warm": request("warm", picture(8, 8), strength=0.4, num_inference_steps=5),
    "rederived": request("rederived", picture(6, 9), projection="latent", rederive=True),
    "unprojected": request("unprojected", picture(9, 4), projection="none"),
    "sparing": request("sparing", picture(8, 8), num_inference_steps=5, projection_every=2),
    "early": request("early", picture(8, 8), num_inference_steps=5, projection_above=0.5),
    "draft": request("draft", picture(8, 8), num_inference_steps=4, draft=True),
    "tiled": request("tiled", picture(40, 70), num_inference_steps=2, projection="residual"),
}


@pytest.mark.parametrize("max_active", [1, 3, 8])
def test_batched_equals_alone(max_active: int) -> None:
    model = FakeModel()
    engine = SREngine(model, max_active=max_active)
    for each in MIX.values():
        engine.add_request(each)
    done = results(run(engine))
    assert done.keys() == MIX.keys()
    if max_active > 1:
        assert max(rows for phase, rows in model.calls if phase == "denoise") > 1
    for request_id, each in MIX.items():
        alone = plain_loop(each, FakeModel())
        torch.testing.assert_close(done[request_id].unrounded, alone, rtol=0, atol=1e-5)


def test_a_batch_of_whole_requests_equals_each_alone() -> None:
    alike = [request(str(seed), picture(24, 40, seed), seed=seed) for seed in range(3)]
    model = FakeModel()
    for each, found in zip(alike, request_batch(alike, model), strict=True):
        torch.testing.assert_close(found, plain_loop(each, FakeModel()), rtol=0, atol=1e-5)
    assert {rows for _, rows in model.calls} == {3}


def test_tiles_of_a_local_model_join_without_a_trace() -> None:
    # The fake's networks see 3 x 3 latents at most: away from tile borders, tiling changes nothing,
    # and at the borders the blend hides what little does.
    wide = request("wide", picture(24, 40), num_inference_steps=2, eta=0.0)
    tiled = SREngine(FakeModel(native_px=32))
    tiled.add_request(wide)
    whole = plain_loop(wide, FakeModel(native_px=1024))
    difference = (results(run(tiled))["wide"].unrounded - whole).abs()
    assert difference.max() < 0.05
    assert difference.median() < 1e-4


def test_every_result_gives_its_input_back() -> None:
    engine = SREngine(FakeModel())
    for each in MIX.values():
        engine.add_request(each)
    for request_id, result in results(run(engine)).items():
        if request_id not in {"unprojected", "odd"}:
            assert result.consistency.exact, request_id
            assert result.consistency.psnr_db is None


def test_same_seed_same_picture_and_another_seed_another() -> None:
    engine = SREngine(FakeModel())
    image = picture(8, 8)
    params = UpscaleParams(num_inference_steps=3, scale=2)
    first = engine.upscale(image, params)
    again = engine.upscale(image, params.override({"seed": first.seed}))
    other = engine.upscale(image, params.override({"seed": (first.seed + 1) % 2**32}))
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.unrounded - other.unrounded).abs().max() > 1e-3


def test_steps_are_counted() -> None:
    engine = SREngine(FakeModel())
    events: list[StepEvent] = []
    params = UpscaleParams(num_inference_steps=4, scale=2, strength=0.5)
    engine.upscale(picture(8, 8), params, on_step=events.append)
    assert [(e.step, e.of) for e in events] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert events[-1].eta_s == 0


@pytest.mark.parametrize("max_active", [1, 3, 8])
def test_the_costs_of_all_results_are_the_time_that_the_engine_was_busy(max_active: int) -> None:
    recorder = PrometheusRecorder()
    engine = SREngine(FakeModel(), max_active=max_active, metrics=Metrics(recorder))
    flat = request("flat", np.full((8, 8, 3), 77, np.uint8))
    for each in (*MIX.values(), flat):
        engine.add_request(each)
    done = results(run(engine))
    assert len(done) == len(MIX) + 1
    busy_s = recorder.registry.get_sample_value("nullscale_busy_seconds_total")
    assert sum(result.work_s for result in done.values()) == pytest.approx(busy_s)
    assert all(result.work_s > 0 for name, result in done.items() if name not in ("dot", "flat"))


def test_abort_leaves_nothing_behind_and_spares_the_neighbour() -> None:
    engine = SREngine(FakeModel(), max_active=2)
    for request_id in ("a", "b", "queued"):
        engine.add_request(request(request_id, picture(8, 8)))
    engine.step()
    for request_id in ("a", "queued"):
        (event,) = engine.abort(request_id)
        assert isinstance(event, RequestFailure)
        assert isinstance(event.error, RequestAborted)
    assert engine.abort("a") == []
    assert results(run(engine)).keys() == {"b"}
    assert not engine.has_work()


def test_two_requests_of_one_id_are_refused() -> None:
    engine = SREngine(FakeModel())
    engine.add_request(request("a", picture(4, 4)))
    with pytest.raises(EngineError, match="here already"):
        engine.add_request(request("a", picture(4, 4)))


SIDES = st.one_of(st.integers(1, 24), st.integers(1, 350))
REQUESTS = st.builds(
    lambda height, width, params, priority: (picture(height, width, seed=height), params, priority),
    SIDES,
    SIDES,
    st.builds(
        UpscaleParams,
        scale=st.sampled_from([1, 1.5, 2]),
        num_inference_steps=st.integers(1, 28),
        projection=st.sampled_from(["none", "latent", "pixel", "residual"]),
        projection_every=st.integers(1, 3),
        projection_above=st.sampled_from([0.0, 0.5]),
        draft=st.booleans(),
        guidance_scale=st.sampled_from([1.0, 3.0]),
        prompt=st.sampled_from(["", "leaf"]),
        strength=st.sampled_from([0.4, 1.0]),
        eta=st.sampled_from([0.0, 0.85]),
        seed=st.integers(0, 9),
    ),
    st.integers(-1, 2),
)


class SometimesShortOfMemory(FakeModel):
    """Loses the batches that ``fails`` says, never single rows."""

    def __init__(self, fails: list[bool]) -> None:
        super().__init__(native_px=256)
        self._fails = cycle(fails or [False])

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        if len(latents) > 1 and next(self._fails):
            raise torch.OutOfMemoryError("no room")
        return super().decode(latents, variant)

    def velocity(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[PromptEmbeddings],
        variant: Variant = Variant.BASE,
    ) -> Tensor:
        if len(latents) > 1 and next(self._fails):
            raise torch.OutOfMemoryError("no room")
        return super().velocity(latents, sigmas, prompts)


@settings(max_examples=25, deadline=None)
@given(
    mix=st.lists(REQUESTS, min_size=1, max_size=6),
    aborted=st.dictionaries(st.integers(0, 5), st.integers(0, 60), max_size=2),
    patient=st.sets(st.integers(0, 5), max_size=2),
    fails=st.lists(st.booleans(), max_size=4),
)
def test_any_mix_equals_the_plain_loop(
    mix: list[tuple[np.ndarray, UpscaleParams, int]],
    aborted: dict[int, int],
    patient: set[int],
    fails: list[bool],
) -> None:
    model = SometimesShortOfMemory(fails)
    engine = SREngine(model, max_active=3)
    requests = {}
    for number, (image, params, priority) in enumerate(mix):
        deadline_s = time.monotonic() + 1e5 if number in patient else None
        requests[str(number)] = UpscaleRequest(
            request_id=str(number),
            image=image,
            params=params,
            priority=priority,
            deadline_s=deadline_s,
        )
        engine.add_request(requests[str(number)])
    events: list[Event] = []
    for batch in count():
        if not engine.has_work():
            break
        events += engine.step()
        for number, when in aborted.items():
            if when == batch:
                events += engine.abort(str(number))
    ended = Counter(e.request_id for e in events if not isinstance(e, StepEvent))
    assert ended == Counter(requests.keys())
    failed = {e.request_id: e.error for e in events if isinstance(e, RequestFailure)}
    for request_id in failed.keys() - {str(number) for number in aborted}:
        # Without projection the fake may leave the range altogether.
        assert requests[request_id].params.projection == "none", failed
        alone = plain_loop(requests[request_id], FakeModel(native_px=256))
        levels = (255 * alone).round().clamp(0, 255)
        assert bool((levels.amax((1, 2)) == levels.amin((1, 2))).all()), failed
    for request_id, result in results(events).items():
        alone = plain_loop(requests[request_id], FakeModel(native_px=256))
        torch.testing.assert_close(result.unrounded, alone, rtol=0, atol=1e-4)
    assert not engine._jobs


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    engine = SREngine(FakeModel())
    engine.upscale(picture(8, 8), UpscaleParams(scale=2))
    late = replace(request("late", picture(8, 8)), deadline_s=time.monotonic() + 1e-6)
    with pytest.raises(DeadlineExceeded, match="would take"):
        engine.add_request(late)
    assert not engine.has_work()


def test_a_deadline_that_the_load_forbids_is_refused_with_a_time_to_come_again() -> None:
    engine = SREngine(FakeModel(), clock=lambda: 0.0)
    engine.upscale(picture(8, 8), UpscaleParams(scale=2))
    for number in range(50):
        engine.add_request(request(str(number), picture(8, 8)))
    urgent = request("urgent", picture(8, 8))
    alone_s = engine._scheduler.service_s(plan_stages(urgent, engine.model.info))
    with pytest.raises(EngineOverloaded) as caught:
        engine.add_request(replace(urgent, deadline_s=3 * alone_s))
    assert 0 < caught.value.retry_after_s < 60
    assert len(results(run(engine))) == 50


def test_a_missed_deadline_drops_its_request_and_no_other() -> None:
    now_s = 0.0
    engine = SREngine(FakeModel(), clock=lambda: now_s)
    urgent = request("urgent", picture(8, 8), num_inference_steps=1000)
    engine.add_request(replace(urgent, deadline_s=60.0))
    engine.add_request(request("patient", picture(8, 8)))
    engine.step()
    now_s = 60.0
    (failure,) = [e for e in engine.step() if isinstance(e, RequestFailure)]
    assert failure.request_id == "urgent"
    assert isinstance(failure.error, DeadlineExceeded)
    assert results(run(engine)).keys() == {"patient"}


@pytest.mark.parametrize("given", [{"priority": -1100}, {"deadline_s": math.nan}], ids=str)
def test_a_priority_or_deadline_out_of_range_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(given))):
        replace(request("a", picture(4, 4)), **given)


@pytest.mark.parametrize("shift", [0.3, 3.0])
@pytest.mark.parametrize("strength", [1.0, 1 - 1e-16, 1 - 2**-53])
def test_a_start_a_rounding_error_below_one(shift: float, strength: float) -> None:
    model = FakeModel(shift=shift)
    assert SREngine(model).upscale(picture(8, 8), UpscaleParams(strength=strength)).consistency


class ShortOfMemory(FakeModel):
    """Has room for two rows a batch."""

    def velocity(self, latents, sigmas, prompts, variant=Variant.BASE):
        if len(latents) > 2:
            raise torch.OutOfMemoryError("no room")
        return super().velocity(latents, sigmas, prompts)


def test_a_batch_too_large_for_memory_is_split() -> None:
    engine = SREngine(ShortOfMemory(), max_active=8)
    for each in MIX.values():
        engine.add_request(each)
    done = results(run(engine))
    for request_id, each in MIX.items():
        alone = plain_loop(each, FakeModel())
        torch.testing.assert_close(done[request_id].unrounded, alone, rtol=0, atol=1e-5)


class Cramped(FakeModel):
    """Has room for so many latent cells a batch in either network."""

    def __init__(self, *, denoise: int = 10**9, vae: int = 10**9) -> None:
        super().__init__()
        self.room = {"denoise": denoise, "vae": vae}
        self.refused: list[tuple[int, ...]] = []

    def velocity(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[PromptEmbeddings],
        variant: Variant = Variant.BASE,
    ) -> Tensor:
        self._take("denoise", latents)
        return super().velocity(latents, sigmas, prompts)

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        self._take("vae", latents)
        return super().decode(latents, variant)

    def _take(self, network: str, latents: Tensor) -> None:
        rows, _, height, width = latents.shape
        if rows * height * width > self.room[network]:
            self.refused.append((rows, height, width))
            raise torch.OutOfMemoryError("no room")


@pytest.mark.parametrize(
    ("room", "tiles"),
    [
        # Native tiles have 16 x 16 cells, a picture of 300 x 260 in one tile 150 x 130.
        ({"denoise": 16 * 16 - 1}, TileLimits(denoise_px=16)),
        ({"denoise": 8 * 8 - 1}, TileLimits(denoise_px=8)),
        ({"vae": 150 * 130 - 1}, TileLimits(vae_px=148)),
        ({"denoise": 16 * 16 - 1, "vae": 150 * 130 - 1}, TileLimits(denoise_px=16, vae_px=148)),
    ],
    ids=str,
)
def test_a_tile_too_large_for_memory_makes_way_for_smaller_ones(
    room: dict[str, int], tiles: TileLimits
) -> None:
    engine = SREngine(Cramped(**room), max_active=4)
    large = request("large", picture(150, 130), num_inference_steps=2)
    small = [request(str(n), picture(3, 3, n), seed=n) for n in range(3)]
    for each in (*small, large):
        engine.add_request(each)
    done = results(run(engine))
    for each in (*small, replace(large, tiles=tiles)):
        alone = plain_loop(each, FakeModel())
        torch.testing.assert_close(done[each.request_id].unrounded, alone, rtol=0, atol=1e-5)
    assert done["large"].consistency.exact


def test_smaller_tiles_make_the_picture_of_the_seed_that_was_drawn() -> None:
    model = Cramped(denoise=16 * 16 - 1)
    seedless = UpscaleParams(num_inference_steps=2, scale=2)
    result = SREngine(model).upscale(picture(20, 20), seedless)
    again = SREngine(model).upscale(picture(20, 20), seedless.override({"seed": result.seed}))
    np.testing.assert_array_equal(result.image, again.image)


def test_what_fits_in_no_tiles_is_out_of_memory_and_harms_no_neighbour() -> None:
    model = Cramped(denoise=8)
    engine = SREngine(model, max_active=4)
    for each in (request("small", picture(1, 2)), request("large", picture(40, 40))):
        engine.add_request(each)
    events = run(engine)
    assert results(events).keys() == {"small"}
    (failure,) = [e for e in events if isinstance(e, RequestFailure)]
    assert (failure.request_id, type(failure.error)) == ("large", OutOfMemory)
    sides = {refused[1:] for refused in model.refused}
    assert sides == {(16, 16), (8, 8), (4, 4)}
    assert not engine._jobs


class Broken(FakeModel):
    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        return super().decode(latents, variant) * torch.nan


def test_a_picture_of_nans_is_an_error() -> None:
    with pytest.raises(InvalidResult, match="non-finite"):
        SREngine(Broken()).upscale(picture(8, 8))


class Fragile(FakeModel):
    """Leaves the range of its number format, as float16 autoencoders do."""

    def __init__(self, *, dtype: str, float32_helps: bool) -> None:
        super().__init__(dtype=dtype)
        self.float32_helps = float32_helps

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        pixels = super().decode(latents, variant)
        if variant is Variant.FLOAT32 and self.float32_helps:
            return pixels
        return pixels * torch.inf


def test_a_broken_picture_is_made_again_in_float32() -> None:
    model = Fragile(dtype="bfloat16", float32_helps=True)
    engine = SREngine(model)
    seedless = UpscaleParams(num_inference_steps=3, scale=2)
    result = engine.upscale(picture(8, 8), seedless)
    same = replace(request("same", picture(8, 8)), params=replace(seedless, seed=result.seed))
    alone = plain_loop(same, FakeModel())
    torch.testing.assert_close(result.unrounded, alone, rtol=0, atol=1e-5)
    assert model.released == 1


@pytest.mark.parametrize(("dtype", "runs"), [("float16", 2), ("float32", 1)])
def test_a_picture_that_stays_broken_is_an_error(dtype: str, runs: int) -> None:
    model = Fragile(dtype=dtype, float32_helps=False)
    engine = SREngine(model)
    with pytest.raises(InvalidResult, match="non-finite"):
        engine.upscale(picture(8, 8), UpscaleParams(num_inference_steps=1, scale=2))
    assert Counter(model.calls)["decode", 1] == runs
    assert not engine.has_work()


@pytest.mark.parametrize("scale", [2, 2.7])
def test_a_flat_input_gives_a_flat_output_without_any_work(scale: float) -> None:
    model = FakeModel()
    flat = np.broadcast_to(np.array([3, 250, 120], np.uint8), (9, 14, 3))
    result = SREngine(model).upscale(flat, UpscaleParams(scale=scale))
    assert (result.image == flat[0, 0]).all()
    assert result.consistency.exact
    assert not model.calls


class Black(FakeModel):
    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        return torch.zeros_like(super().decode(latents, variant))


class Wild(FakeModel):
    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        return 1e3 * super().decode(latents, variant)


@pytest.mark.parametrize(
    ("model", "projection", "words"),
    [(Black(), "none", "empty"), (Wild(), "pixel", "out of range|not give the input back")],
)
def test_an_impossible_picture_is_an_error(
    model: FakeModel, projection: Projection, words: str
) -> None:
    params = UpscaleParams(num_inference_steps=2, scale=2, projection=projection)
    with pytest.raises(InvalidResult, match=words):
        SREngine(model).upscale(picture(8, 8), params)


def test_a_request_for_a_draft_needs_a_model_with_one() -> None:
    model = FakeModel()
    model.info = replace(model.info, draft=False)
    with pytest.raises(InvalidParameter, match="no draft"):
        SREngine(model).upscale(picture(8, 8), UpscaleParams(draft=True))


def test_previews_are_small_pictures_of_the_estimate() -> None:
    engine = SREngine(FakeModel())
    engine.add_request(replace(request("a", picture(20, 30)), preview_px=16))
    engine.add_request(request("b", picture(8, 8)))
    steps = [e for e in run(engine) if isinstance(e, StepEvent)]
    assert all(e.preview is None for e in steps if e.request_id == "b")
    previews = [e.preview for e in steps if e.request_id == "a"]
    assert all(p is not None and p.shape == (11, 16, 3) and p.dtype == np.uint8 for p in previews)
    small = np.asarray(Image.fromarray(picture(20, 30)).resize((16, 11)))
    assert previews[-1] is not None
    assert np.abs(previews[-1].astype(int) - small).mean() < 30


class Failing(FakeModel):
    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        raise RuntimeError("internal detail")


def test_a_failing_model_fails_the_request_and_hides_the_detail() -> None:
    engine = SREngine(Failing())
    with pytest.raises(EngineError, match="the model failed") as caught:
        engine.upscale(picture(8, 8))
    assert "internal detail" not in str(caught.value)
    assert not engine.has_work()


class Choosy(FakeModel):
    """Fails on every batch that holds a row of the prompt "poison"."""

    def velocity(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[PromptEmbeddings],
        variant: Variant = Variant.BASE,
    ) -> Tensor:
        if any(p.pooled.mean() > 0.055 for p in prompts):
            raise ValueError("stack expects each tensor to be equal size")
        return super().velocity(latents, sigmas, prompts)

    def encode_prompt(self, prompt: str) -> PromptEmbeddings:
        if prompt == "untokenizable":
            raise KeyError(prompt)
        return super().encode_prompt(prompt)


@pytest.mark.parametrize("prompt", ["poison", "untokenizable"])
def test_one_bad_request_fails_alone(prompt: str) -> None:
    engine = SREngine(Choosy(), max_active=4)
    for number in range(3):
        engine.add_request(request(str(number), picture(8, 8)))
    engine.add_request(request("bad", picture(8, 8), prompt=prompt))
    events = run(engine)
    assert results(events).keys() == {"0", "1", "2"}
    (failure,) = [e for e in events if isinstance(e, RequestFailure)]
    assert failure.request_id == "bad"
    assert isinstance(failure.error, EngineError)


@pytest.mark.parametrize(
    "place", ["nullscale.maths.correction.project", "nullscale.maths.problem.round_consistently"]
)
def test_no_room_for_a_picture_fails_that_picture_alone(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, name = place.rpartition(".")
    real = getattr(sys.modules[module], name)

    def too_large(x: Tensor, *args: object, **kwargs: object) -> object:
        if x.shape[-1] > 20:
            raise torch.OutOfMemoryError("no room")
        return real(x, *args, **kwargs)

    monkeypatch.setattr(place, too_large)
    engine = SREngine(FakeModel(), max_active=4)
    engine.add_request(request("small", picture(8, 8)))
    engine.add_request(request("large", picture(8, 16)))
    events = run(engine)
    assert results(events).keys() == {"small"}
    (failure,) = [e for e in events if isinstance(e, RequestFailure)]
    assert (failure.request_id, type(failure.error)) == ("large", OutOfMemory)
    # Nothing may keep the tensors of the failed attempt alive.
    assert failure.error.__cause__ is not None
    assert failure.error.__cause__.__traceback__ is None


class Lost(FakeModel):
    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        raise torch.AcceleratorError("illegal memory access")


def test_a_lost_device_is_no_request_failure() -> None:
    with pytest.raises(torch.AcceleratorError):
        SREngine(Lost()).upscale(picture(8, 8))


def test_an_interrupted_upscale_leaves_nothing_behind() -> None:
    engine = SREngine(FakeModel())

    def interrupt(event: StepEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.upscale(picture(8, 8), on_step=interrupt)
    assert not engine.has_work()
