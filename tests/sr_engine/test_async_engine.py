"""The engine's thread: results, cancellation, death."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import FakeModel
from torch import Tensor

from nullscale.errors import EngineDead, EngineDraining, EngineError
from nullscale.maths.params import UpscaleParams
from nullscale.scheduling.work import Caps, Variant
from sr_engine.async_engine import AsyncSREngine
from sr_engine.engine import SREngine
from sr_engine.events import Progress, QueuedEvent, StepEvent, UpscaleResult
from sr_engine.request import UpscaleRequest


class Gated(FakeModel):
    """Waits at every decode until the test lets it through."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.reached = threading.Event()

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        self.reached.set()
        assert self.gate.wait(20)
        return super().decode(latents, variant)


def request(request_id: str, seed: int = 1) -> UpscaleRequest:
    image = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(6, 6, 3)
    params = UpscaleParams(num_inference_steps=3, scale=2, seed=seed)
    return UpscaleRequest(request_id=request_id, image=image, params=params)


@pytest.fixture
def gated() -> Iterator[tuple[Gated, AsyncSREngine]]:
    model = Gated()
    engine = AsyncSREngine(SREngine(model), heartbeat_limit_s=1.0)
    yield model, engine
    model.gate.set()
    engine.close()


async def test_many_callers_each_get_their_own() -> None:
    engine = AsyncSREngine(SREngine(FakeModel()))
    events: list[Progress] = []
    done = await asyncio.gather(
        *(engine.upscale(request(str(i), seed=i), events.append) for i in range(6))
    )
    await asyncio.sleep(0)
    engine.close()
    assert [r.request_id for r in done] == [str(i) for i in range(6)]
    assert [r.seed for r in done] == list(range(6))
    assert sum(isinstance(event, StepEvent) for event in events) == 18


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
    await asyncio.sleep(1.3)
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


async def test_events_tell_of_the_queue_the_steps_and_the_end() -> None:
    model = Gated()
    engine = AsyncSREngine(SREngine(model, max_active=1))
    first = asyncio.create_task(engine.upscale(request("a")))
    await asyncio.to_thread(model.reached.wait, 10)
    second = asyncio.create_task(collect(engine, request("b")))
    third = asyncio.create_task(collect(engine, request("c")))
    await asyncio.sleep(0.05)
    model.gate.set()
    await first
    for position, events in enumerate((await second, await third)):
        queued = [e.position for e in events if isinstance(e, QueuedEvent)]
        assert queued == sorted(queued, reverse=True)
        assert queued[0] == position
        assert [e.step for e in events if isinstance(e, StepEvent)] == [1, 2, 3]
        assert isinstance(events[-1], UpscaleResult)
    engine.close()


async def collect(engine: AsyncSREngine, given: UpscaleRequest) -> list[Progress | UpscaleResult]:
    return [event async for event in engine.events(given)]


async def test_leaving_the_events_takes_the_request_out() -> None:
    engine = AsyncSREngine(SREngine(FakeModel()))
    long = replace(request("a"), params=UpscaleParams(num_inference_steps=1000, scale=2, seed=1))
    async with contextlib.aclosing(engine.events(long)) as events:
        async for event in events:
            if isinstance(event, StepEvent):
                break
    await asyncio.wait_for(engine.drain(), 10)
    assert not engine._engine.has_work()
    engine.close()


async def test_draining_finishes_what_is_here_and_takes_no_more(
    gated: tuple[Gated, AsyncSREngine],
) -> None:
    model, engine = gated
    first = asyncio.create_task(engine.upscale(request("a")))
    await asyncio.to_thread(model.reached.wait, 10)
    draining = asyncio.create_task(engine.drain())
    await asyncio.sleep(0.01)
    with pytest.raises(EngineDraining):
        await engine.upscale(request("b"))
    assert not draining.done()
    model.gate.set()
    assert (await first).request_id == "a"
    await asyncio.wait_for(draining, 10)


class Dying(FakeModel):
    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
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


class DyingAtTheGate(Gated):
    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        super().decode(latents, variant)
        raise SystemError("the driver is gone")


async def test_what_was_asked_of_an_engine_while_it_died_is_answered() -> None:
    model = DyingAtTheGate()
    engine = AsyncSREngine(SREngine(model))
    first = asyncio.create_task(engine.upscale(request("a")))
    await asyncio.to_thread(model.reached.wait, 10)
    engine.limit(Caps(max_active=4, max_active_pixels=2**20, max_batch_rows=1))
    second = asyncio.create_task(engine.upscale(request("b")))
    await asyncio.sleep(0.05)
    model.gate.set()
    outcomes = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), 10)
    assert all(isinstance(outcome, EngineDead) for outcome in outcomes)


def test_close_ends_the_thread() -> None:
    before = set(threading.enumerate())
    engine = AsyncSREngine(SREngine(FakeModel()))
    (thread,) = set(threading.enumerate()) - before
    assert thread.name == "sr-engine"
    engine.close()
    assert not thread.is_alive()
    assert torch.is_inference_mode_enabled() is False


async def test_other_caps_reach_the_thread_and_let_those_who_wait_in() -> None:
    model = Gated()
    engine = AsyncSREngine(SREngine(model, max_active=1))
    first = asyncio.create_task(engine.upscale(request("a")))
    await asyncio.to_thread(model.reached.wait, 10)
    others = [asyncio.create_task(collect(engine, request(name))) for name in "bc"]
    await asyncio.sleep(0.05)
    engine.limit(Caps(max_active=4, max_active_pixels=2**20, max_batch_rows=1))
    model.gate.set()
    events = [*(await others[0]), *(await others[1])]
    assert sum(isinstance(event, UpscaleResult) for event in events) == 2
    await first
    # Tiles of all three were at hand together, and still none shared a batch.
    assert {rows for _, rows in model.calls} == {1}
    engine.close()


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_caps_leave_room_for_one(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Caps(*bad)
