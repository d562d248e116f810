"""The application of `serve_config.cpu.yaml` on a real Ray cluster, with a tiny model."""

import asyncio
import io
import os
import signal
from collections.abc import Iterator
from typing import Any

import cluster
import httpx
import numpy as np
import psutil
import pytest
import yaml
from checkpoints import write_checkpoint
from marks import CLUSTER
from pictures import photo
from PIL import Image

pytestmark = CLUSTER


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two replicas of a tiny model, warm and ready."""
    model = str(write_checkpoint(tmp_path_factory.mktemp("model")))
    with cluster.service({"model": model, "threads": 1}, ingresses=1) as url:
        yield url


async def post(
    http: httpx.AsyncClient, image: bytes | None = None, **fields: Any
) -> httpx.Response:
    files = {"image": ("photo.png", photo(20, 14) if image is None else image)}
    return await http.post("/v1/upscale", files=files, data=fields)


async def test_a_picture_over_http(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        response = await post(http, seed="5", num_inference_steps="4")
        again = await post(http, seed="5", num_inference_steps="4")
        model = (await http.get("/v1/models")).json()["models"][0]
        missing = await http.get("/nope")
        refused = await post(http, scale="nan", prompt="a cat")
    assert response.status_code == 200, response.text
    with (
        Image.open(io.BytesIO(response.content)) as large,
        Image.open(io.BytesIO(photo(20, 14))) as small,
    ):
        assert large.size == (56, 80)
        back = large.resize(small.size, Image.Resampling.BICUBIC)
        assert np.array_equal(np.asarray(back), np.asarray(small))
    assert response.headers["x-consistency-exact"] == "?1"
    assert response.headers["x-seed"] == "5"
    assert response.headers["x-model"] == model["name"]
    assert len(response.headers.get_list("x-request-id")) == 1
    assert response.headers["x-request-id"] != again.headers["x-request-id"]
    assert_same_picture(response.content, again.content)
    for problem, status in ((missing, 404), (refused, 422)):
        assert problem.status_code == status
        assert problem.headers["content-type"] == "application/problem+json"
        assert problem.json()["request_id"] == problem.headers["x-request-id"]
    assert {e["pointer"] for e in refused.json()["errors"]} == {"#/scale", "#/prompt"}


async def events_of(
    http: httpx.AsyncClient, url: str, last: int = 0, most: int = 1000
) -> list[tuple[int, str]]:
    """Numbers and names of a job's events, as they come, up to ``most``."""
    events: list[tuple[int, str]] = []
    number = 0
    headers = {"Last-Event-ID": str(last)}
    async with http.stream("GET", url, headers=headers) as stream:
        assert stream.status_code == 200
        async for line in stream.aiter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "id":
                number = int(value)
            elif not line and number:
                events.append((number, name))
                number = 0
                if len(events) == most:
                    break
    return events


async def test_a_job_its_events_and_its_end(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        files, fields = (
            {"image": ("photo.png", photo(20, 14))},
            {"seed": "5", "num_inference_steps": "6"},
        )
        made = await http.post(
            "/v1/upscale", files=files, data=fields, headers={"Prefer": "respond-async"}
        )
        assert made.status_code == 202, made.text
        job = made.json()
        # A reader that goes away after two events, and comes back.
        first = await events_of(http, job["events_url"], most=2)
        rest = await events_of(http, job["events_url"], last=first[-1][0])
        whole = await events_of(http, job["events_url"])
        assert [number for number, _ in first + rest] == sorted({n for n, _ in first + rest})
        assert [e for e in first + rest if e[1] != "preview"] == [
            e for e in whole if e[1] != "preview"
        ]
        names = [name for _, name in first + rest]
        assert names.count("step") == 6 and names[-1] == "done"
        result = await http.get(job["result_url"])
        direct = await post(http, **fields)
        assert_same_picture(result.content, direct.content)
        assert (await http.delete(f"/v1/jobs/{job['id']}")).status_code == 200
        gone = await http.get(job["result_url"])
        assert (gone.status_code, gone.json()["code"]) == (410, "job_expired")
        missing = await http.get("/v1/jobs/none")
        assert (missing.status_code, missing.json()["code"]) == (404, "job_not_found")


async def test_a_cancelled_job_leaves_the_workers(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        files = {"image": ("photo.png", photo(60, 60))}
        jobs = []
        for _ in range(8):
            made = await http.post(
                "/v1/upscale",
                files=files,
                # Many minutes each: with them in the way nothing else would end.
                data={"num_inference_steps": "1000", "async": "true"},
            )
            jobs.append(made.json())
        await events_of(http, jobs[0]["events_url"], most=3)
        for job in jobs:
            assert (await http.delete(f"/v1/jobs/{job['id']}")).json()["status"] == "cancelled"
        assert (await post(http, num_inference_steps="2")).status_code == 200


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image).astype(int)


def assert_same_picture(png: bytes, other: bytes) -> None:
    """Rows of a batch differ from rows alone by rounding errors, which may tip a sample over."""
    difference = np.abs(pixels(png) - pixels(other))
    assert difference.mean() < 0.05, difference.max()


async def test_overload_is_refused_and_absent_clients_are_forgotten(url: str) -> None:
    (application,) = yaml.safe_load(cluster.CONFIG.read_text())["applications"]
    upscaler = application["deployments"][2]
    taken, queued = upscaler["max_ongoing_requests"], upscaler["max_queued_requests"]
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=httpx.Limits()) as http:
        # Far more than there are places, and each takes long enough. Some are refused, for want of
        # a place in the queue or, by a replica, of time. (Not all that are too many: Serve does not
        # count those as waiting that it is offering to a replica.)
        large = photo(60, 60)
        waiting = [
            asyncio.create_task(post(http, large, num_inference_steps="300"))
            for _ in range(3 * (2 * taken + queued))
        ]
        try:
            for ended in asyncio.as_completed(waiting):
                if (response := await ended).status_code != 200:
                    break
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        assert response.status_code == 503, response.headers
        assert response.json()["code"] == "overloaded"
        assert int(response.headers["retry-after"]) > 0
    async with httpx.AsyncClient(base_url=url, timeout=300) as http:
        assert (await post(http, num_inference_steps="1")).status_code == 200


async def test_a_killed_replica_loses_no_request(url: str) -> None:
    seeds = [str(seed) for seed in range(5)]
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=httpx.Limits()) as http:
        expected = {
            seed: (await post(http, seed=seed, num_inference_steps="8")).content for seed in seeds
        }
        assert len(set(expected.values())) == len(seeds)
        victim, survivor = cluster.processes(cluster.UPSCALER)
        waiting = [
            asyncio.create_task(post(http, seed=seed, num_inference_steps="8"))
            for seed in seeds * 10
        ]
        # Some are done, all others are under way or wait: now.
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert sum(task.done() for task in waiting) < 40
        os.kill(victim.pid, signal.SIGKILL)
        responses = await asyncio.gather(*waiting)
    assert [response.status_code for response in responses] == [200] * 50
    for seed, response in zip(seeds * 10, responses, strict=True):
        assert response.headers["x-seed"] == seed
        assert_same_picture(response.content, expected[seed])
    assert not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE
    assert survivor.is_running()
