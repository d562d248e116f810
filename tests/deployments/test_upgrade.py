"""Another configuration under load: which replicas it replaces, and that no request notices.

`load_tests/upgrade.py` is the long form.
"""

import asyncio
import copy
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import chaos
import cluster
import httpx
import pytest
import upgrade
from marks import CLUSTER
from pictures import photo

pytestmark = CLUSTER

RATE = 2.0


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """What is deployed; each test changes it further."""
    return upgrade.draining(100)


@pytest.fixture(scope="module")
def url(config: dict[str, Any]) -> Iterator[str]:
    with cluster.running(copy.deepcopy(config)) as url:
        yield url


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=upgrade.CLIENT_S, limits=limits) as http:
        yield http


async def deploy(
    http: httpx.AsyncClient, config: dict[str, Any], change: upgrade.Change
) -> dict[str, Any]:
    known = await chaos.known_answers(http)
    change(config)
    return await upgrade.upgrade(http, known, copy.deepcopy(config), RATE)


async def long_job(http: httpx.AsyncClient) -> str:
    fields = {"num_inference_steps": "20", "scale": "4", "async": "true"}
    made = await http.post("/v1/upscale", files={"image": photo(64, 64)}, data=fields)
    assert made.status_code == 202, made.text
    return str(made.headers["location"])


async def test_limits_change_in_running_replicas_and_bad_ones_do_not(
    http: httpx.AsyncClient, config: dict[str, Any]
) -> None:
    async def bodies_up_to() -> int:
        (model,) = (await http.get("/v1/models")).json()["models"]
        return int(model["limits"]["max_body_bytes"])

    def limit(max_bytes: int) -> upgrade.Change:
        def change(config: dict[str, Any]) -> None:
            settings = cluster.deployment_of(config, "Ingress")["user_config"]
            settings["limits"]["max_body_bytes"] = max_bytes

        return change

    before = await bodies_up_to()
    bad = await deploy(http, config, limit(-1))
    assert {await bodies_up_to() for _ in range(10)} == {before}
    good = await deploy(http, config, limit(20_000))
    # Every replica has it.
    assert {await bodies_up_to() for _ in range(10)} == {20_000}
    large = await http.post("/v1/upscale", files={"image": bytes(20_000)})
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    for found in (bad, good):
        assert found["replaced"] == {"Upscaler": 0, "Ingress": 0, "Jobs": 0}
        assert (found["lost"], found["wrong"]) == (0, 0), found


@pytest.mark.skipif(
    " " in sys.executable,
    reason="Ray starts no worker with a runtime_env from a folder with a space in its name",
)
async def test_a_release_of_one_deployment_leaves_the_others_and_the_jobs_alone(
    http: httpx.AsyncClient, config: dict[str, Any]
) -> None:
    job = await long_job(http)
    found = await deploy(http, config, upgrade.release("Upscaler"))
    assert found["replaced"] == {"Upscaler": 2, "Ingress": 0, "Jobs": 0}
    assert (found["lost"], found["wrong"]) == (0, 0), found
    while (state := (await http.get(job)).json())["status"] in ("queued", "running"):
        await asyncio.sleep(0.5)
    assert state["status"] == "succeeded"
    assert (await http.get(f"{job}/result")).status_code == 200


async def test_other_arguments_replace_every_replica_and_lose_jobs_alone(
    http: httpx.AsyncClient, config: dict[str, Any]
) -> None:
    job = await long_job(http)
    found = await deploy(http, config, upgrade.arguments)
    assert found["replaced"] == {"Upscaler": 2, "Ingress": 2, "Jobs": 1}
    assert (found["lost"], found["wrong"]) == (0, 0), found
    gone = await http.get(job)
    assert (gone.status_code, gone.json()["code"]) == (404, "job_not_found")
