"""What pictures and probes do where it may be that no replica runs."""

import asyncio
import threading
import time

import numpy as np
import pytest
from fake_service import LIMITS, client, send, service
from fake_upscaler import FakeUpscaler
from ray.exceptions import RayActorError

from deployments.cold_start import ASK_EVERY_S, ColdStart
from deployments.dispatch import Dispatcher
from deployments.limits import IngressSettings
from deployments.messages import Order
from deployments.metrics import HttpMetrics
from nullscale.imaging.image_io import SourceImage
from nullscale.maths.params import UpscaleParams
from sr_engine.metrics import PrometheusRecorder

SOURCE = SourceImage(
    samples=np.zeros((8, 6, 3), np.uint8), alpha=None, exif=None, xmp=None, bit_depth=8
)


def order() -> Order:
    return Order(
        source=SOURCE,
        params=UpscaleParams(seed=1, num_inference_steps=2),
        output_format="png",
        output_quality=None,
        until_s=time.time() + 30,
        decode_ms=0.0,
    )


class Clock:
    """Time as the test wants it."""

    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


async def test_who_sleeps_is_asked_of_serve_once_a_second() -> None:
    running, clock, asked = [0], Clock(), [0]

    def ask() -> int:
        asked[0] += 1
        return running[0]

    cold = ColdStart(30.0, ask, clock)
    assert cold.wait_s == 0, "nothing has been heard"
    assert await cold.asleep() and cold.wait_s == 30
    running[0] = 2
    assert await cold.asleep() and asked[0] == 1
    clock.now_s += ASK_EVERY_S
    assert not await cold.asleep() and cold.wait_s == 0
    cold.measured(42.0)
    running[0] = 0
    clock.now_s += ASK_EVERY_S
    assert await cold.asleep() and cold.wait_s == 42, "the last start, longer than the guess"
    cold.measured(13.0)
    assert cold.wait_s == 0, "who answers runs"
    assert cold.start_s == 30, "of its node's start a replica does not know"


async def test_who_asks_meanwhile_gets_the_same_answer() -> None:
    answer, asked = threading.Event(), [0]

    def ask() -> int:
        asked[0] += 1
        answer.wait(30)
        return 0

    cold = ColdStart(30.0, ask)
    asking = [asyncio.create_task(cold.asleep(now=now)) for now in (False, False, True, True)]
    await asyncio.sleep(0.05)
    asking[0].cancel()
    answer.set()
    assert await asyncio.gather(*asking[1:]) == [True, True, True]
    assert asked == [1]


async def test_a_silent_controller_holds_no_picture_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.cold_start.ANSWER_WITHIN_S", 0.05)
    answer, asked = threading.Event(), [0]

    def ask() -> int:
        asked[0] += 1
        answer.wait(30)
        return 0

    try:
        upscaler = FakeUpscaler()
        dispatcher = Dispatcher(upscaler, 30, running=ask, cold_start_s=30.0)
        for _ in range(3):
            await dispatcher.upscale(order(), "1")
        assert len(upscaler.calls) == 3 and asked == [1], "one question is out, whoever waits"
        assert await dispatcher.ready()
    finally:
        answer.set()
    async with asyncio.timeout(10):
        while not await dispatcher.cold.asleep(now=True):
            await asyncio.sleep(0.01)


async def test_where_some_always_run_nobody_is_asked() -> None:
    cold = ColdStart(None, lambda: pytest.fail("asked"))
    assert not await cold.asleep() and not cold.allowed
    cold.measured(12.0)
    assert (cold.start_s, cold.wait_s) == (0, 0)


async def test_without_a_controller_nobody_is_said_to_sleep() -> None:
    def ask() -> int:
        raise RayActorError

    assert not await ColdStart(30.0, ask).asleep()


async def test_probes_and_models_wake_nobody() -> None:
    upscaler = FakeUpscaler()
    async with client(upscaler, running=0, cold_start_s=30.0) as http:
        ready, *others = await asyncio.gather(*[http.get("/readyz") for _ in range(5)])
        assert {other.json()["status"] for other in others} == {"asleep"}
        assert (ready.status_code, ready.json()["status"]) == (200, "asleep")
        assert not upscaler.describe.responses
        # Nobody knows the model yet: only a replica can say.
        assert (await http.get("/v1/models")).status_code == 200
        assert len(upscaler.describe.responses) == 1
        answers = await asyncio.gather(*[http.get("/v1/models") for _ in range(5)])
        assert {answer.status_code for answer in answers} == {200}
        assert len(upscaler.describe.responses) == 1


async def test_a_probe_does_not_take_one_just_gone_for_awake() -> None:
    upscaler, running = FakeUpscaler(), [1]
    dispatcher = Dispatcher(upscaler, 30, running=lambda: running[0], cold_start_s=30.0)
    assert await dispatcher.ready()
    assert len(upscaler.describe.responses) == 1
    running[0] = 0
    assert not await dispatcher.ready()
    assert (await dispatcher.describe()).name == "fake"
    assert len(upscaler.describe.responses) == 1


async def test_a_picture_waits_for_the_first_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.dispatch.KNOWN_TIMEOUT_S", 0.05)
    for cold_start_s, status in ((None, 503), (2.0, 200)):
        upscaler = FakeUpscaler()
        upscaler.silent = True
        async with client(upscaler, running=0, cold_start_s=cold_start_s) as http:
            sent = asyncio.create_task(send(http))
            await asyncio.sleep(0.3)
            upscaler.silent = False
            assert (await sent).status_code == status


async def test_a_refusal_counts_the_start_in() -> None:
    upscaler = FakeUpscaler()
    dispatcher = Dispatcher(
        upscaler, 30, running=lambda: 0, retry_after_s=lambda: 5.0, cold_start_s=40.0
    )
    await dispatcher.cold.asleep()
    assert dispatcher._come_again("overloaded", "").retry_after_s == 45


@pytest.mark.parametrize("events", [False, True])
async def test_a_reply_tells_that_one_is_awake_and_what_its_start_took(events: bool) -> None:
    dispatcher = Dispatcher(
        FakeUpscaler(), 30, running=lambda: 0, retry_after_s=lambda: 5.0, cold_start_s=1.0
    )
    await dispatcher.upscale(order(), "1", (lambda event: None) if events else None)
    assert dispatcher._come_again("overloaded", "").retry_after_s == 5
    assert dispatcher.cold.start_s == 2, "as it has said, longer than the guess"


async def test_the_gauge_of_the_wait_has_the_start_in_it_only_while_someone_waits() -> None:
    upscaler, recorder = FakeUpscaler(), PrometheusRecorder()
    ingress, _ = service(upscaler, IngressSettings(limits=LIMITS), running=0, cold_start_s=40.0)
    ingress._metrics = HttpMetrics(recorder)

    def gauge() -> float | None:
        ingress._look()
        return recorder.registry.get_sample_value("nullscale_predicted_wait_seconds")

    assert (await ingress.readyz()).status == "asleep"
    assert gauge() == 0
    with ingress._backlog.place() as place:
        ingress._backlog.settle(place, 3.0)
        assert gauge() == 3 + 40
    assert gauge() == 0


async def test_a_job_is_told_of_the_start() -> None:
    upscaler = FakeUpscaler()
    async with client(upscaler, running=0, cold_start_s=40.0) as http:
        made = (await send(http, **{"async": "true"})).json()
        events = (await http.get(made["events_url"])).text
    # The last word on its place is the replica's; the numbers before it tell of an earlier one.
    first = next(line for line in events.splitlines() if line.startswith("id: "))
    assert int(first.removeprefix("id: ")) > 1
    assert "event: done" in events
