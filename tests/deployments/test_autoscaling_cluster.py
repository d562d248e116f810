"""Replicas that follow the work on a real Ray cluster, in both directions."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import cluster
import httpx
import pytest
import scaled_service
from marks import CLUSTER
from pictures import photo

pytestmark = [
    *CLUSTER,
    pytest.mark.filterwarnings("ignore:The `metrics_interval_s` field:DeprecationWarning"),
]

POLICY = {
    "target_wait_s": 2,
    "recover_s": 5,
    "shrink_delay_s": 5,
    "sleep_delay_s": 5,
    "start_s": 10,
}
LIMIT_S = 240


async def post(http: httpx.AsyncClient, **fields: str) -> httpx.Response:
    files = {"image": ("photo.png", photo(64, 64))}
    return await http.post("/v1/upscale", files=files, data={"num_inference_steps": "8", **fields})


async def until(true: Callable[[int, int], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true(*await asyncio.to_thread(scaled_service.replicas)):
            await asyncio.sleep(0.5)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A service of one to three replicas, or with as few as the test says."""
    options: dict[str, Any] = getattr(request, "param", {})
    with cluster.running(scaled_service.scaled(3, POLICY, **options)) as url:
        yield url


async def test_a_burst_makes_it_grow_in_one_jump_and_nothing_is_lost_when_it_shrinks(
    url: str,
) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=httpx.Limits()) as http:
        answers = [asyncio.create_task(post(http)) for _ in range(60)]
        await until(lambda running, there: running == 3)
        assert scaled_service.decisions() == [(1, 3)]

        async def trickle() -> None:
            while True:
                answers.append(asyncio.create_task(post(http)))
                await asyncio.sleep(3)

        # Long enough apart that one replica suffices, and some are under way all the time.
        beside = asyncio.create_task(trickle())
        await until(lambda running, there: running == there == 1)
        beside.cancel()
        with suppress(asyncio.CancelledError):
            await beside
        statuses = [response.status_code for response in await asyncio.gather(*answers)]
    assert set(statuses) == {200}
    assert all(after < before for before, after in scaled_service.decisions()[1:])


@pytest.mark.parametrize("url", [{"least": 0, "cold_start_s": 15.0}], indirect=True)
async def test_at_zero_replicas_a_picture_waits_for_the_start_and_probes_wake_nobody(
    url: str,
) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=300) as http:
        await until(lambda running, there: there == 0)
        probe = await http.get("/readyz")
        assert (probe.status_code, probe.json()["status"]) == (200, "asleep")
        await asyncio.sleep(3)
        assert await asyncio.to_thread(scaled_service.replicas) == (0, 0)
        assert (await post(http)).status_code == 200
        await until(lambda running, there: there == 0)
        # A job too, and its events say when it may be done.
        made = (await post(http, **{"async": "true"})).json()
        lines = (await http.get(made["events_url"])).text
    assert '"eta_s"' in lines and "event: done" in lines
