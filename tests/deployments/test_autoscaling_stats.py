"""What the ingress and the jobs' owner tell the autoscaling policy; no work is told twice."""

import asyncio
import time
from typing import Any

import httpx
import numpy as np
import pytest
from fake_service import LIMITS, send, service
from fake_upscaler import FakeUpscaler

from deployments.jobs import Jobs
from deployments.limits import IngressSettings, JobSettings
from deployments.messages import Order
from deployments.pictures import work_of
from deployments.upscaler import Upscaler
from deployments.workload import COUNTED_S, WINDOWS_S, told_as
from nullscale.errors import EngineError
from nullscale.imaging.image_io import SourceImage
from nullscale.maths.params import UpscaleParams

UNITS = 4 * 8 * 4 * 6 / 1e6 * 5
"""Of `fake_service.picture()`, 8 × 6 at scale 4, in the model's 5 steps."""
ARRIVED = [name for window_s in WINDOWS_S for name in told_as(window_s)]
TOTAL, SQUARES = told_as(WINDOWS_S[-1])


def order(**more: Any) -> Order:
    samples = np.zeros((8, 6, 3), np.uint8)
    return Order(
        source=SourceImage(samples=samples, alpha=None, exif=None, xmp=None, bit_depth=8),
        params=UpscaleParams(seed=1, num_inference_steps=5),
        output_format="png",
        output_quality=None,
        until_s=time.time() + 30,
        decode_ms=0.0,
        **more,
    )


async def soon(true: Any) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


async def test_the_ingress_tells_what_is_out_in_seconds() -> None:
    upscaler = FakeUpscaler(delay_s=0.2)
    upscaler.work_s = 3 * UNITS
    ingress, app = service(upscaler, IngressSettings(limits=LIMITS))
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
    async with http:
        assert await ingress.record_autoscaling_stats() == {
            "outstanding_work_s": 0.0,
            "unit_s": 1.0,
            COUNTED_S: pytest.approx(1, abs=1),
            **dict.fromkeys(ARRIVED, 0.0),
        }
        sent = [asyncio.create_task(send(http)) for _ in range(3)]
        await soon(lambda: len(upscaler.calls) == 3)
        told = await ingress.record_autoscaling_stats()
        assert told["unit_s"] == 0.5, "what the replica has measured, before the first reply"
        assert told["outstanding_work_s"] == pytest.approx(3 * 0.5 * UNITS)
        await asyncio.gather(*sent)
        told = await ingress.record_autoscaling_stats()
        assert told["outstanding_work_s"] == 0
        assert told["unit_s"] == pytest.approx(3.0), "what the pictures have cost"
        # The second in which they came is over.
        await asyncio.sleep(1)
        told = await ingress.record_autoscaling_stats()
        assert told[TOTAL] == pytest.approx(3 * 3.0 * UNITS)
        assert told[SQUARES] == pytest.approx(3 * (3.0 * UNITS) ** 2)
        assert told[COUNTED_S] >= 1


async def test_a_job_is_told_by_its_owner_alone_until_it_has_ended() -> None:
    upscaler = FakeUpscaler(delay_s=0.1)
    upscaler.work_s = 2 * UNITS
    ingress, app = service(upscaler, IngressSettings(limits=LIMITS))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as http:
        for _ in range(2):
            made = await send(http, **{"async": "true"})
            assert made.status_code == 202
        assert (await ingress.record_autoscaling_stats())["outstanding_work_s"] == 0
        await asyncio.sleep(1)
        told = await ingress.record_autoscaling_stats()
        assert [told[name] for name in ARRIVED] == [0.0] * len(ARRIVED)


async def test_the_owner_tells_of_jobs_that_wait_and_of_those_with_workers() -> None:
    upscaler = FakeUpscaler(EngineError("no"), delay_s=0.1)
    upscaler.work_s = 2 * UNITS
    jobs = Jobs(upscaler, JobSettings(timeout_s=30, max_running=1), lambda: 1)
    assert work_of(order()) == pytest.approx(UNITS)
    made = [(await jobs.submit(order(expected_s=7 * UNITS), "me", "1", None))[0] for _ in range(3)]
    told = await jobs.record_autoscaling_stats()
    assert told["outstanding_work_s"] == pytest.approx(3 * 7 * UNITS), "as the ingress expects"
    await jobs.cancel(made[2].id, "me")
    told = await jobs.record_autoscaling_stats()
    assert told["outstanding_work_s"] == pytest.approx(2 * 7 * UNITS)
    while (await jobs.record_autoscaling_stats())["outstanding_work_s"]:
        await asyncio.sleep(0.01)
    # One failed, and taught nothing; one cost 2.
    await asyncio.sleep(1)
    told = await jobs.record_autoscaling_stats()
    assert told["unit_s"] == pytest.approx(2.0)
    assert told[TOTAL] == pytest.approx(3 * 2.0 * UNITS), "the cancelled one has come, too"


async def test_a_replica_tells_how_long_its_start_took() -> None:
    replica = Upscaler.__new__(Upscaler)
    replica._start_s = 12.5
    assert await replica.record_autoscaling_stats() == {"start_s": 12.5}
