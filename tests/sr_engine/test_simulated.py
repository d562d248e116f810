"""The simulated device: the real engine, a GPU's time, none of its work."""

import time

import numpy as np
import pytest

from sr_engine.devices import DEVICES
from sr_engine.engine import SREngine
from sr_engine.errors import ModelLoadError
from sr_engine.events import Event, StepEvent
from sr_engine.plan import plan_stages
from sr_engine.request import UpscaleParams, UpscaleRequest, UpscaleResult
from sr_engine.simulated import SimulatedModel, SimulatedRequest

NAME = "sd3.5-medium-h100"
IMAGE = np.arange(100 * 300 * 3, dtype=np.uint32).reshape(100, 300, 3).astype(np.uint8)


def test_requests_take_the_devices_time_and_hardly_any_of_this_machines() -> None:
    model = SimulatedModel(NAME)
    engine = SREngine(model, begin=SimulatedRequest)
    given = [
        UpscaleRequest(
            request_id=str(seed),
            image=IMAGE,
            params=UpscaleParams(num_inference_steps=8, seed=seed),
        )
        for seed in range(3)
    ]
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    for request in given:
        engine.add_request(request)
    events: list[Event] = []
    while engine.has_work():
        events += engine.step()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    results = [e for e in events if isinstance(e, UpscaleResult)]
    assert [r.image.shape for r in results] == 3 * [(400, 1200, 3)]
    assert sum(isinstance(e, StepEvent) for e in events) == 24
    alone_s = sum(
        DEVICES[NAME].batch_s(stage.kind, 1) * stage.rows
        for request in given
        for stage in plan_stages(request, model.info)
    )
    assert wall_s > 0.9 * alone_s
    assert cpu_s < wall_s


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ModelLoadError, match=NAME):
        SimulatedModel("abacus")
