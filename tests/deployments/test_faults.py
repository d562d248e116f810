"""What dies on a real cluster costs no client's picture: each fault once, under a load."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import chaos
import cluster
import httpx
import numpy as np
import pytest
from checkpoints import write_checkpoint
from marks import CLUSTER
from pictures import photo
from ray import serve

from deployments.upscaler import Upscaler, UpscalerArgs

HEARTBEAT_S = 4.0
DEADLINE_S = 120.0

pytestmark = CLUSTER


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two replicas of a tiny model behind two of the ingress."""
    args = {
        "model": str(write_checkpoint(tmp_path_factory.mktemp("model"))),
        "threads": 1,
        "upscale_timeout_s": DEADLINE_S,
        "heartbeat_limit_s": HEARTBEAT_S,
    }
    with cluster.service(args, import_path="faulty_app:build_app") as url:
        yield url


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service in good health, whatever the test before it did."""
    await asyncio.to_thread(cluster.wait_until_healthy)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S + 10, limits=limits) as http:
        yield http


@pytest.fixture
async def known(http: httpx.AsyncClient) -> dict[int, np.ndarray]:
    return await chaos.known_answers(http)


async def test_killed_replicas_lose_no_request(
    http: httpx.AsyncClient, known: dict[int, np.ndarray]
) -> None:
    killed: set[int] = set()

    async def kill() -> None:
        victim, _ = cluster.processes(cluster.UPSCALER)
        killed.add(victim.pid)
        os.kill(victim.pid, signal.SIGKILL)

    answers = await chaos.under_load(http, known, seconds=8, rate=4, strike=kill, every_s=30)
    assert len(killed) == 1
    assert [a for a in answers if a.outcome != "200" or a.wrong] == []


async def test_with_every_replica_killed_requests_wait_for_new_ones(
    http: httpx.AsyncClient, known: dict[int, np.ndarray]
) -> None:
    waiting = [asyncio.create_task(chaos.ask(http, seed)) for seed in chaos.SEEDS for _ in "ab"]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for process in cluster.processes(cluster.UPSCALER):
        process.kill()
    late = await chaos.ask(http, 0)
    assert late.status_code == 200, late.text
    for response in await asyncio.gather(*waiting):
        # Those whose retries met dead replicas too are told to come again.
        if response.status_code != 200:
            assert (response.status_code, response.json()["code"]) == (503, "replica_lost")
            assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("fault", ["hang", "lost_device"])
async def test_a_replica_whose_engine_is_gone_is_replaced(
    fault: str, http: httpx.AsyncClient, known: dict[int, np.ndarray]
) -> None:
    pid = await chaos.inject(fault)
    done = asyncio.Event()
    # A new replica gets its first picture when every ingress knows of it, and no sooner.
    load = asyncio.create_task(chaos.load_until(done, http, known, rate=3))
    await asyncio.to_thread(cluster.wait_until_gone, pid)
    await asyncio.to_thread(cluster.wait_until_healthy)
    done.set()
    assert [a for a in await load if a.outcome != "200" or a.wrong] == []
    assert pid not in {process.pid for process in cluster.processes(cluster.UPSCALER)}


async def test_out_of_memory_harms_nobody(
    http: httpx.AsyncClient, known: dict[int, np.ndarray]
) -> None:
    pid = await chaos.inject("out_of_memory_of_a_batch")
    answers = await chaos.under_load(http, known, seconds=4, rate=6)
    assert [a for a in answers if a.outcome != "200" or a.wrong] == []
    pid = await chaos.inject("out_of_memory_of_a_row")
    responses = await asyncio.gather(*(chaos.ask(http, seed) for seed in [*chaos.SEEDS] * 3))
    # In smaller tiles the picture is another one; what it gives back is not.
    assert {response.status_code for response in responses} == {200}
    assert {response.headers["x-consistency-exact"] for response in responses} == {"?1"}
    assert pid in {process.pid for process in cluster.processes(cluster.UPSCALER)}


async def test_without_its_controller_the_service_answers(
    http: httpx.AsyncClient, known: dict[int, np.ndarray]
) -> None:
    (controller,) = cluster.processes(cluster.CONTROLLER)
    kill = partial(chaos.kill, cluster.CONTROLLER, random.Random(0))
    replicas = {p.pid for p in cluster.processes("ray::ServeReplica")}
    answers = await chaos.under_load(http, known, seconds=8, rate=3, strike=kill, every_s=30)
    assert [a for a in answers if a.outcome != "200" or a.wrong] == []
    await asyncio.to_thread(cluster.wait_until_healthy)
    assert cluster.processes(cluster.CONTROLLER)[0].pid != controller.pid
    assert {p.pid for p in cluster.processes("ray::ServeReplica")} == replicas


async def test_a_killed_ingress_replica_loses_no_request(
    http: httpx.AsyncClient, known: dict[int, np.ndarray]
) -> None:
    first, second = cluster.processes(cluster.INGRESS)
    waiting = [asyncio.create_task(chaos.ask(http, seed)) for seed in chaos.SEEDS for _ in "abcd"]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    first.kill()
    during = await asyncio.gather(*waiting)
    assert [response.status_code for response in during] == [200] * len(waiting)
    answers = await chaos.under_load(http, known, seconds=5, rate=3)
    assert [a for a in answers if a.outcome != "200" or a.wrong] == []
    assert second.is_running()


async def test_jobs_die_with_their_owner_and_nothing_else_does(
    http: httpx.AsyncClient, known: dict[int, np.ndarray]
) -> None:
    made = await http.post(
        "/v1/upscale",
        files={"image": ("a.png", photo(24, 32))},
        data={"num_inference_steps": "1000", "async": "true"},
    )
    (owner,) = cluster.processes(f"{cluster.REPLICA}Jobs")
    owner.kill()
    answers = await chaos.under_load(http, known, seconds=5, rate=3)
    assert [a for a in answers if a.outcome != "200" or a.wrong] == []
    await asyncio.to_thread(cluster.wait_until_healthy)
    gone = await http.get(made.headers["location"])
    assert (gone.status_code, gone.json()["code"]) == (404, "job_not_found")
    again = await http.post(
        "/v1/upscale", files={"image": ("a.png", photo(24, 32))}, data={"async": "true"}
    )
    assert again.status_code == 202
    # The picture of the lost job has left the workers; else nothing below would end in time.
    assert (await chaos.ask(http, 0)).status_code == 200


def test_bad_weights_never_serve_and_say_why_in_one_line(url: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (weights,) = (tmp_path / "vae").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    spoiled = serve.deployment(
        Upscaler, name="Upscaler", max_constructor_retry_count=1, ray_actor_options={"num_cpus": 0}
    ).bind(UpscalerArgs(model=str(tmp_path), device="cpu"))
    with pytest.raises(RuntimeError):
        serve.run(spoiled, name="spoiled", route_prefix=None)
    status = serve.status().applications["spoiled"]
    assert status.status == "DEPLOY_FAILED"
    (_, line) = status.deployments["Upscaler"].message.splitlines()
    assert f"ModelLoadError: {tmp_path}/vae: cannot be read" in line
    serve.delete("spoiled")
