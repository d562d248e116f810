"""The engine's thread: results, cancellation, death."""

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from fakes import FakeModel
from torch import Tensor

from sr_engine.async_engine import AsyncSREngine
from sr_engine.engine import SREngine, StepEvent
from sr_engine.errors import EngineDead, EngineError
from sr_engine.request import UpscaleParams, UpscaleRequest


class Gated(FakeModel):
    """Waits at every decode until the test lets it through."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.reached = threading.Event()

    def decode(self, latents: Tensor) -> Tensor:
        self.reached.set()
        assert self.gate.wait(20)
        return super().decode(latents)


def request(request_id: str, seed: int = 1) -> UpscaleRequest:
    image = np.full((6, 6, 3), 90, np.uint8)
    params = UpscaleParams(num_inference_steps=3, scale=2, seed=seed)
    return UpscaleRequest(request_id=request_id, image=image, params=params)


@pytest.fixture
def gated() -> Iterator[tuple[Gated, AsyncSREngine]]:
    model = Gated()
    engine = AsyncSREngine(SREngine(model), heartbeat_limit_s=0.3)
    yield model, engine
    model.gate.set()
    engine.close()


async def test_many_callers_each_get_their_own() -> None:
    engine = AsyncSREngine(SREngine(FakeModel()))
    steps: list[StepEvent] = []
    done = await asyncio.gather(
        *(engine.upscale(request(str(i), seed=i), steps.append) for i in range(6))
    )
    await asyncio.sleep(0)
    engine.close()
    assert [r.request_id for r in done] == [str(i) for i in range(6)]
    assert [r.seed for r in done] == list(range(6))
    assert len(steps) == 18


async def test_an_id_in_use_fails_the_second_request_alone(
    gated: tuple[Gated, AsyncSREngine],
) -> None:
    model, engine = gated
    first = asyncio.create_task(engine.upscale(request("a")))
    await asyncio.to_thread(model.reached.wait, 10)
    second = asyncio.create_task(engine.upscale(request("a")))
    await asyncio.sleep(0)
    model.gate.set()
    with pytest.raises(EngineError, match="here already"):
        await second
    assert (await first).request_id == "a"


async def test_cancelling_takes_the_request_out(gated: tuple[Gated, AsyncSREngine]) -> None:
    model, engine = gated
    waiting = asyncio.create_task(engine.upscale(request("a")))
    await asyncio.to_thread(model.reached.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    model.gate.set()
    await engine.upscale(request("b"))
    decodes = sum(phase == "decode" for phase, _ in model.calls)
    assert decodes == 1 + 3


async def test_a_hung_batch_fails_the_health_check(gated: tuple[Gated, AsyncSREngine]) -> None:
    model, engine = gated
    engine.check_health()
    waiting = asyncio.create_task(engine.upscale(request("a")))
    await asyncio.to_thread(model.reached.wait, 10)
    await asyncio.sleep(0.5)
    with pytest.raises(EngineDead, match="has not finished"):
        engine.check_health()
    model.gate.set()
    await waiting
    engine.check_health()


async def test_an_idle_engine_stays_healthy() -> None:
    engine = AsyncSREngine(SREngine(FakeModel()), heartbeat_limit_s=2.0)
    await asyncio.sleep(0.7)
    engine.check_health()
    engine.close()
    with pytest.raises(EngineDead):
        await engine.upscale(request("late"))


class Dying(FakeModel):
    def decode(self, latents: Tensor) -> Tensor:
        raise SystemError("the driver is gone")


async def test_a_crash_fails_every_caller_with_its_cause() -> None:
    engine = AsyncSREngine(SREngine(Dying()))
    outcomes = await asyncio.gather(
        engine.upscale(request("a")), engine.upscale(request("b")), return_exceptions=True
    )
    assert all(isinstance(o, EngineDead) for o in outcomes)
    assert isinstance(outcomes[0].__cause__, SystemError)
    with pytest.raises(EngineDead):
        engine.check_health()


def test_close_ends_the_thread() -> None:
    before = set(threading.enumerate())
    engine = AsyncSREngine(SREngine(FakeModel()))
    (thread,) = set(threading.enumerate()) - before
    assert thread.name == "sr-engine"
    engine.close()
    assert not thread.is_alive()
    assert torch.is_inference_mode_enabled() is False
