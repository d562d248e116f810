"""Too many requests, bodies that drip in, and a moderate load, on a service with a simulated GPU.

`load_tests/overload.py`, `slow_bodies.py` and `load_curve.py` are the long forms, with bounds on
times.
"""

import asyncio
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator

import exported
import httpx
import load_curve
import overload
import pytest
import slow_bodies
from cluster import serve_logs, service
from marks import CLUSTER

from deployments.backlog import GUESS_S

pytestmark = CLUSTER

LOAD = Namespace(seconds=14.0, times=3.0, steps=12)
SLOW = 40
BODY_TIMEOUT_S = 4.0
ARGS = overload.ARGS | {"limits": {**overload.ARGS["limits"], "body_timeout_s": BODY_TIMEOUT_S}}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """One worker, ready."""
    # What is counted is exported more often than every ten seconds.
    often = {"RAY_metrics_report_interval_ms": "1000"}
    with service(ARGS, upscalers=1, ingresses=1, environment=often) as url:
        yield url


def test_a_point_of_the_load_curve(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported, "SETTLE_S", 4)
    found = load_curve.measure(url, [0.5], 12, 8.0)
    (point,) = found["points"]
    assert set(point["outcomes"]) == {"200"}
    # What the replicas have counted has come, and once. A second row gains nothing, but that is
    # measured: on a busy machine a few batches may have one.
    assert set(point["rows"]) == {"denoise", "decode", "encode"}
    assert all(1 <= rows < 1.5 for rows in point["rows"].values())
    assert 0 < point["busy_share"] < 1


async def test_overload_is_refused_and_what_is_taken_is_done(url: str) -> None:
    figures = await overload.measure(url, LOAD)
    # Neither: pictures, and 503 with a Retry-After.
    assert figures["other"] == []
    assert figures["served_vs_capacity"] > 0.6
    refused = figures["refused"] + figures["polite"]["refused"]
    assert refused > figures["offered"] / 3
    assert figures["polite"]["served"] > 0
    # What the long form's bound is taken from.
    assert len(list(overload.refusals(serve_logs()))) == refused


async def test_slow_bodies_end_and_hold_nobody_up(url: str) -> None:
    async with asyncio.TaskGroup() as group, httpx.AsyncClient(base_url=url, timeout=60) as http:
        for _ in range(3):
            await slow_bodies.normal(http)
        crowd = [
            group.create_task(slow_bodies.slow(url, 0.5, 10 * BODY_TIMEOUT_S)) for _ in range(SLOW)
        ]
        # Until then they may be a burst of requests, and some of them too many; on a busy machine
        # for longer.
        await asyncio.sleep(1.5 * GUESS_S)
        answered = refused = 0
        while not all(slow.done() for slow in crowd):
            try:
                await slow_bodies.normal(http)
                answered += 1
            except httpx.HTTPStatusError as err:
                assert (err.response.status_code, answered) == (503, 0)
                refused += 1
                await asyncio.sleep(GUESS_S)
    assert answered > 0
    assert refused <= 2
    ended = Counter(slow.result().outcome for slow in crowd)
    assert set(ended) <= {"408", "503"}
    assert ended["408"] >= SLOW / 8
