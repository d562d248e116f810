"""Calls that wait: one picture, several in common batches, and what an early end leaves behind."""

import numpy as np
import pytest
from fakes import FakeModel

from nullscale.errors import EngineError
from nullscale.maths.params import UpscaleParams
from sr_engine.engine import SREngine
from sr_engine.request import UpscaleRequest

PARAMS = UpscaleParams(scale=2, num_inference_steps=3, seed=1)
IMAGE = np.random.default_rng(0).integers(90, 160, (6, 9, 3)).astype(np.uint8)


def request(name: str, **params: object) -> UpscaleRequest:
    return UpscaleRequest(request_id=name, image=IMAGE, params=PARAMS.override(params))


def test_results_come_as_they_end_and_as_if_alone() -> None:
    given = [request("long", num_inference_steps=9), request("short", seed=2)]
    found = list(SREngine(FakeModel()).results(given))
    assert [result.request_id for result in found] == ["short", "long"]
    alone = SREngine(FakeModel()).upscale(IMAGE, PARAMS.override({"seed": 2}))
    np.testing.assert_allclose(found[0].unrounded, alone.unrounded, atol=1e-5)


def test_steps_of_ours_alone_are_told_and_others_go_on() -> None:
    engine = SREngine(FakeModel())
    engine.add_request(request("other", num_inference_steps=12))
    told: list[str] = []
    (result,) = engine.results([request("ours")], on_step=lambda e: told.append(e.request_id))
    assert result.request_id == "ours"
    assert told == ["ours"] * 3
    assert engine.has_work()


def test_leaving_early_takes_the_rest_out() -> None:
    engine = SREngine(FakeModel())
    results = engine.results([request("a"), request("b", num_inference_steps=9)])
    assert next(results).request_id == "a"
    assert engine.has_work()
    results.close()
    assert not engine.has_work()


def test_a_refused_request_takes_those_before_it_out() -> None:
    engine = SREngine(FakeModel())
    with pytest.raises(EngineError, match="here already"):
        list(engine.results([request("a"), request("a")]))
    assert not engine.has_work()
