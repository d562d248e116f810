"""The simulated device: the real engine, a GPU's time, none of its work."""

import time

import numpy as np
import pytest
import torch

from nullscale.errors import ModelLoadError
from nullscale.maths.params import UpscaleParams
from nullscale.scheduling.work import Kind, Phase
from nullscale.simulation.devices import DEVICES
from nullscale.simulation.simulated import SimulatedModel, SimulatedRequest
from sr_engine.engine import SREngine
from sr_engine.events import Event, StepEvent, UpscaleResult
from sr_engine.plan import plan_stages
from sr_engine.request import UpscaleRequest

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


@pytest.mark.parametrize(
    "name",
    [
        "abacus",
        f"{NAME}?speed=5",
        f"{NAME}?slow",
        f"{NAME}?slow=0",
        f"{NAME}?slow=nan",
        f"{NAME}?load_s=-1",
        f"{NAME}?slow=2&slow=2",
    ],
)
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(ModelLoadError, match=r"slow|load_s|sd3.5-medium-h100,"):
        SimulatedModel(name)


class Clock:
    """Sleeps at once."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now_s += seconds

    def read(self) -> float:
        return self.now_s


def test_options_load_for_a_while_and_slow_every_batch() -> None:
    clock = Clock()
    model = SimulatedModel(f"{NAME}?slow=5&load_s=60", sleep=clock.sleep, clock=clock.read)
    assert clock.now_s == 60
    model.decode(torch.zeros(2, 1, 128, 64))
    assert clock.now_s - 60 == pytest.approx(
        5 * DEVICES[NAME].batch_s(Kind(Phase.DECODE, 128, 64), 2)
    )


def test_a_device_makes_up_for_its_host_but_does_no_work_ahead() -> None:
    clock = Clock()
    model = SimulatedModel(NAME, sleep=clock.sleep, clock=clock.read)
    tile = torch.zeros(1, 1, 128, 128)
    batch_s = DEVICES[NAME].batch_s(Kind(Phase.DECODE, 128, 128), 1)
    model.decode(tile)
    for late_s in (0.3 * batch_s, 0.9 * batch_s):
        clock.now_s += late_s
        before_s = clock.now_s
        model.decode(tile)
        assert clock.now_s - before_s == pytest.approx(batch_s - late_s)
    clock.now_s += 100
    before_s = clock.now_s
    model.decode(tile)
    model.decode(tile)
    assert clock.now_s - before_s == pytest.approx(2 * batch_s)
