"""Asynchronous jobs over HTTP, against a replica that answers in this process."""

import asyncio
import base64
import gc
import io
import json
import time
import weakref
from typing import Any

import httpx
import numpy as np
import pytest
from fake_service import client, picture, problem, send
from fake_upscaler import FakeUpscaler
from fastapi import routing
from PIL import Image
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.jobs import Jobs
from deployments.limits import JobSettings
from deployments.messages import Order
from deployments.problems import Problem
from deployments.schemas import JobStatus
from nullscale.errors import EngineError
from nullscale.imaging.image_io import SourceImage
from nullscale.maths.params import UpscaleParams

ASYNC = {"Prefer": "respond-async"}


async def submit(http: httpx.AsyncClient, **fields: Any) -> JobStatus:
    response = await send(http, headers=ASYNC, **fields)
    assert response.status_code == 202, response.text
    return JobStatus.model_validate_json(response.content)


async def ended(http: httpx.AsyncClient, job_id: str) -> JobStatus:
    for _ in range(1000):
        status = JobStatus.model_validate_json((await http.get(f"/v1/jobs/{job_id}")).content)
        if status.status not in ("queued", "running"):
            return status
        await asyncio.sleep(0.01)
    pytest.fail("the job did not end")


def parsed(stream: str) -> list[tuple[int, str, dict[str, Any]]]:
    events = []
    for block in stream.strip().split("\n\n"):
        given = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if given:
            events.append((int(given["id"]), given["event"], json.loads(given["data"])))
    return events


async def test_a_job_from_its_start_to_its_picture() -> None:
    async with client(FakeUpscaler()) as http:
        made = await send(http, headers=ASYNC, seed="7", scale="3")
        job = JobStatus.model_validate_json(made.content)
        assert made.headers["location"] == f"/v1/jobs/{job.id}"
        assert made.headers["preference-applied"] == "respond-async"
        assert "prefer" in made.headers["vary"].lower()
        assert job.status in ("queued", "running") and job.seed == 7
        status = await ended(http, job.id)
        assert status.status == "succeeded" and status.problem is None
        assert status.created_at <= status.started_at <= status.ended_at <= status.expires_at
        result = await http.get(status.result_url)
        direct = await send(http, seed="7", scale="3")
        assert result.content == direct.content
        assert result.headers["x-seed"] == "7"
        as_json = await http.get(status.result_url, headers={"Accept": "application/json"})
        assert base64.b64decode(as_json.json()["image"]) == direct.content


async def test_the_form_may_ask_for_a_job_too() -> None:
    async with client(FakeUpscaler()) as http:
        response = await send(http, **{"async": "true"})
        assert response.status_code == 202 and "preference-applied" not in response.headers
        assert (await send(http, **{"async": "false"})).status_code == 200
        for other in ("wait=5", "handling=lenient"):
            assert (await send(http, headers={"Prefer": other})).status_code == 200
        both = await send(http, headers={"Prefer": "handling=lenient, Respond-Async; x=1"})
        assert both.status_code == 202


async def test_a_result_is_a_conflict_before_the_end() -> None:
    async with client(FakeUpscaler(delay_s=30)) as http:
        job = await submit(http)
        response = await http.get(job.result_url)
        assert problem(response, 409, "job_not_finished").retryable
        assert response.headers["retry-after"] == "1"
        await http.delete(f"/v1/jobs/{job.id}")


async def test_events_tell_all_and_resume() -> None:
    async with client(FakeUpscaler()) as http:
        job = await submit(http, num_inference_steps="4")
        response = await http.get(job.events_url)
        assert response.headers["content-type"].startswith("text/event-stream")
        events = parsed(response.text)
        assert [name for _, name, _ in events if name != "preview"] == [
            "queued",
            *["step"] * 3,
            "done",
        ]
        numbers = [number for number, _, _ in events]
        assert numbers == sorted(set(numbers))
        steps = [data for _, name, data in events if name == "step"]
        assert [(data["step"], data["of"]) for data in steps] == [(1, 4), (2, 4), (3, 4)]
        assert events[-1][2] == {"result": job.result_url}
        (preview,) = [data for _, name, data in events if name == "preview"][-1:]
        with Image.open(io.BytesIO(base64.b64decode(preview["image"]))) as small:
            assert (small.format, small.size) == ("JPEG", (preview["width"], preview["height"]))
        for last in (numbers[1], numbers[-1]):
            rest = await http.get(job.events_url, headers={"Last-Event-ID": str(last)})
            assert parsed(rest.text) == [event for event in events if event[0] > last]
        for nonsense in ("x", "-1", "9" * 30):
            again = await http.get(job.events_url, headers={"Last-Event-ID": nonsense})
            assert parsed(again.text) == events


async def test_a_silent_stream_of_events_has_a_comment_every_15_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert routing._PING_INTERVAL == 15
    monkeypatch.setattr(routing, "_PING_INTERVAL", 0.02)
    async with client(FakeUpscaler(delay_s=0.2)) as http:
        job = await submit(http, num_inference_steps="2")
        stream = (await http.get(job.events_url)).text
    blocks = stream.strip().split("\n\n")
    comments = [block for block in blocks if block.startswith(":")]
    assert comments and all("\n" not in comment for comment in comments)
    # Between the events, not in place of them.
    assert [name for _, name, _ in parsed(stream)] == ["queued", "step", "preview", "done"]


async def test_a_job_is_cancelled_and_frees_the_replica() -> None:
    upscaler = FakeUpscaler(delay_s=30)
    async with client(upscaler) as http:
        job = await submit(http)
        while not upscaler.events.streams:
            await asyncio.sleep(0.01)
        watching = asyncio.create_task(http.get(job.events_url))
        await asyncio.sleep(0.01)
        response = await http.delete(f"/v1/jobs/{job.id}")
        assert response.json()["status"] == "cancelled"
        events = parsed((await watching).text)
        assert (events[-1][1], events[-1][2]["code"]) == ("failed", "job_cancelled")
        problem(await http.get(job.result_url), 409, "job_cancelled")
        await asyncio.sleep(0)
        assert [stream.cancelled for stream in upscaler.events.streams] == [True]


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_job_without_a_picture_keeps_none_in_memory(cancelled: bool) -> None:
    upscaler = FakeUpscaler(EngineError("no"), delay_s=30 if cancelled else 0)
    jobs = Jobs(upscaler, JobSettings(timeout_s=30))
    samples = np.zeros((8, 6, 3), np.uint8)
    source = SourceImage(samples=samples, alpha=None, exif=None, xmp=None, bit_depth=8)
    order = Order(
        source=source,
        params=UpscaleParams(seed=1, num_inference_steps=2),
        output_format="png",
        output_quality=None,
        until_s=time.time() + 30,
        decode_ms=0.0,
    )
    job, _ = await jobs.submit(order, "me", "1", None)
    if cancelled:
        while not upscaler.events.streams:
            await asyncio.sleep(0.01)
        await jobs.cancel(job.id, "me")
    while (await jobs.status(job.id, "me")).status in ("queued", "running"):
        await asyncio.sleep(0.01)
    for _ in range(3):
        with pytest.raises(Problem):
            await jobs.result(job.id, "me")
    await asyncio.sleep(0.01)
    stream = weakref.ref(upscaler.events.streams.pop())
    upscaler.calls.clear()
    picture_of_it = weakref.ref(samples)
    del order, source, samples
    gc.collect()
    assert stream() is None and picture_of_it() is None


async def test_an_ended_job_can_be_forgotten() -> None:
    async with client(FakeUpscaler()) as http:
        job = await submit(http)
        await ended(http, job.id)
        assert (await http.delete(f"/v1/jobs/{job.id}")).json()["status"] == "succeeded"
        for path in ("", "/result", "/events"):
            problem(await http.get(f"/v1/jobs/{job.id}{path}"), 410, "job_expired")
            problem(await http.get(f"/v1/jobs/nonsense{path}"), 404, "job_not_found")
        problem(await http.delete("/v1/jobs/nonsense"), 404, "job_not_found")


async def test_what_a_job_runs_into_is_its_result() -> None:
    async with client(FakeUpscaler(EngineError("/srv/x.py burns"))) as http:
        job = await submit(http)
        status = await ended(http, job.id)
        assert status.status == "failed" and status.problem is not None
        assert status.problem.code == "inference_failed"
        assert status.problem.request_id == status.request_id
        problem(await http.get(job.result_url), 500, "inference_failed")
        (*_, (_, name, data)) = parsed((await http.get(job.events_url)).text)
        assert (name, data["code"]) == ("failed", "inference_failed")
        assert "srv" not in json.dumps(data)


async def test_a_job_comes_again_where_no_worker_can_take_it() -> None:
    full = BackPressureError(num_queued_requests=9, max_queued_requests=9)
    upscaler = FakeUpscaler(full, DeploymentUnavailableError("Upscaler"), full, ActorDiedError())
    async with client(upscaler) as http:
        job = await submit(http, seed="3")
        assert (await ended(http, job.id)).status == "succeeded"
    assert [call["params"]["seed"] for call in upscaler.calls] == [3] * 5


async def test_a_job_that_kills_its_workers_does_not_come_again() -> None:
    upscaler = FakeUpscaler(*[ActorDiedError()] * 9)
    async with client(upscaler) as http:
        job = await submit(http)
        status = await ended(http, job.id)
        assert status.problem is not None and status.problem.code == "replica_lost"
    assert len(upscaler.calls) == 3


async def test_a_job_that_nobody_takes_up_ends_with_its_deadline() -> None:
    one = JobSettings(max_running=1)
    async with client(FakeUpscaler(delay_s=30), jobs=one) as http:
        first = await submit(http)
        second = await submit(http, deadline_s="0.05")
        status = await ended(http, second.id)
        assert status.problem is not None and status.problem.code == "deadline_exceeded"
        problem(await http.get(second.result_url), 504, "deadline_exceeded")
        await http.delete(f"/v1/jobs/{first.id}")


async def test_jobs_out_of_reach_are_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.job_routes.ANSWER_TIMEOUT_S", 0.05)
    monkeypatch.setattr(Jobs, "status", hangs)
    monkeypatch.setattr(Jobs, "submit", hangs)
    async with client(FakeUpscaler()) as http:
        for response in (await http.get("/v1/jobs/a"), await send(http, headers=ASYNC)):
            assert problem(response, 503, "not_ready").retryable


async def hangs(*args: object) -> None:
    await asyncio.sleep(30)


async def test_bad_jobs_are_refused_at_once() -> None:
    upscaler = FakeUpscaler()
    async with client(upscaler) as http:
        problem(await send(http, image=b"", headers=ASYNC), 422, "invalid_image")
        problem(await send(http, headers=ASYNC, scale="nan"), 422, "invalid_parameter")
    assert not upscaler.calls


async def test_the_same_key_finds_the_same_job() -> None:
    upscaler = FakeUpscaler()
    key = {**ASYNC, "Idempotency-Key": "order-1"}
    async with client(upscaler) as http:
        first = await send(http, headers=key)
        again = await send(http, headers=key)
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["id"] == again.json()["id"]
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        for change in ({"scale": "3"}, {"seed": "1"}, {"image": picture(flat=True)}):
            problem(await send(http, headers=key, **change), 422, "idempotency_key_reused")
        other = await send(http, headers={**ASYNC, "Idempotency-Key": "order-2"})
        assert other.json()["id"] != first.json()["id"]
        await ended(http, first.json()["id"])
        await ended(http, other.json()["id"])
        assert len(upscaler.calls) == 2


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ü"])
async def test_an_idempotency_key_is_plain(key: str) -> None:
    async with client(FakeUpscaler()) as http:
        headers = {**ASYNC, "Idempotency-Key": key.encode()}
        problem(await send(http, headers=headers), 422, "invalid_header")


async def test_an_idempotency_key_is_for_jobs() -> None:
    upscaler = FakeUpscaler()
    async with client(upscaler) as http:
        problem(await send(http, headers={"Idempotency-Key": "a"}), 422, "invalid_header")
    assert not upscaler.calls


async def test_jobs_of_a_key_and_of_all_are_bounded() -> None:
    few = JobSettings(max_unfinished_a_key=2, max_running=1)
    async with client(FakeUpscaler(delay_s=30), jobs=few) as http:
        jobs = [await submit(http) for _ in range(2)]
        assert [job.status for job in jobs] == ["running", "queued"]
        response = await send(http, headers=ASYNC)
        assert problem(response, 429, "too_many_jobs").retryable
        assert int(response.headers["retry-after"]) > 0
        await http.delete(f"/v1/jobs/{jobs[0].id}")
        await submit(http)
        assert (await http.get(f"/v1/jobs/{jobs[1].id}")).json()["status"] == "running"
    full = JobSettings(max_unfinished=1)
    async with client(FakeUpscaler(delay_s=30), jobs=full) as http:
        await submit(http)
        problem(await send(http, headers=ASYNC), 503, "overloaded")
