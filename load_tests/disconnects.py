"""Clients that leave at random moments: how soon the engine is free, and what they leave behind.

    python load_tests/disconnects.py

On a simulated GPU, one worker. Every request of the first part would take the GPU for minutes, so
nothing ends but by its client's leave. Three forms: a client that closes its connection (`sync`), a
job that is cancelled by DELETE (`job`), a job whose events' reader goes away, which must not end
it, and which is cancelled then (`stream`). In the second part, requests of every form end in every
way, uploads broken off among them. The last line printed is a JSON object:

    clients, answered   how many left, and how many of those had an answer before
    went_on             `stream`: the jobs that were still under way after their readers had gone
    reached             clients whose picture was in some batch
    steps_after         steps begun for a picture after its client had left: the most, and the mean
    free_after_s        from a client's leave to the end of the last batch with its picture in it
    idle_after_s        from the last client's leave to the end of the engine's last batch
    step_s              a step of a picture under this load: the median
    leaks               before the requests of the second part and after each quarter of them: of
                        each kind of process its threads, open files, memory of its own in MB and
                        coroutines; the objects in Ray's store and their MB, once the
                        replicas have collected their garbage
"""

import argparse
import asyncio
import json
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import ray
from cluster import APP, CONTROLLER, INGRESS, UPSCALER, processes, service
from pictures import photo
from ray import serve
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from watched_app import Batch

from sr_engine.work import Phase

IMPORT_PATH = "watched_app:build_app"
ARGS = {
    "model": "simulated:sd3.5-medium-h100",
    "max_active": 4,
    # Nothing is refused for want of time.
    "upscale_timeout_s": 1e6,
    "limits": {"max_wait_s": 1e6},
    "jobs": {"timeout_s": 1e6, "max_unfinished_a_key": 256},
}
KINDS = {
    "proxy": "ray::ProxyActor",
    "ingress": INGRESS,
    "jobs": f"ray::ServeReplica:{APP}:Jobs",
    "upscaler": UPSCALER,
    "controller": CONTROLLER,
}
AT_ONCE = 20
SETTLE_S = 3.0
IDLE_S = 20.0  # one picture that stayed would take longer


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked for: a square picture and the steps to take; by default, without an end."""

    steps: int = 1000
    side_px: int = 256


@dataclass(frozen=True, slots=True)
class Left:
    """A client that has gone: its request's id, and when, in Unix time."""

    request_id: str
    at_s: float
    answered: bool = False
    went_on: bool = False


async def sync(http: httpx.AsyncClient, stays_s: float, work: Work) -> Left:
    """Ask for a picture and close the connection before it can come."""
    request_id = uuid.uuid4().hex
    asking = asyncio.create_task(_post(http, request_id, work))
    await asyncio.wait([asking], timeout=stays_s)
    left_s, answered = time.time(), asking.done()
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    return Left(request_id, left_s, answered)


async def job(http: httpx.AsyncClient, stays_s: float, work: Work) -> Left:
    """Make a job of a picture and cancel it."""
    request_id = uuid.uuid4().hex
    url = await _submit(http, request_id, work)
    await asyncio.sleep(stays_s)
    left_s = time.time()
    ended = (await http.delete(url)).raise_for_status().json()["status"] != "cancelled"
    return Left(request_id, left_s, answered=ended)


async def stream(http: httpx.AsyncClient, stays_s: float, work: Work) -> Left:
    """Make a job of a picture, follow its events for a while, go; much later, cancel it."""
    request_id = uuid.uuid4().hex
    url = await _submit(http, request_id, work)
    reading = asyncio.create_task(_read(http, f"{url}/events"))
    await asyncio.wait([reading], timeout=stays_s / 2)
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading
    await asyncio.sleep(stays_s / 2)
    state = (await http.get(url)).raise_for_status().json()["status"]
    left_s = time.time()
    ended = (await http.delete(url)).raise_for_status().json()["status"] != "cancelled"
    return Left(request_id, left_s, answered=ended, went_on=state in ("queued", "running"))


async def upload(http: httpx.AsyncClient, stays_s: float, work: Work) -> Left:
    """Break off in the middle of the body."""
    request_id = uuid.uuid4().hex
    request = http.build_request("POST", "/v1/upscale", **_form(request_id, work))
    body = await request.aread()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    where = urlsplit(str(http.base_url))
    _, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(f"POST /v1/upscale HTTP/1.1\r\n{head}\r\n".encode() + body[: len(body) // 2])
    await writer.drain()
    await asyncio.sleep(stays_s)
    writer.transport.abort()
    return Left(request_id, time.time())


async def served(http: httpx.AsyncClient, stays_s: float, work: Work) -> Left:
    """Wait for the picture."""
    request_id = uuid.uuid4().hex
    (await _post(http, request_id, work)).raise_for_status()
    return Left(request_id, time.time(), answered=True)


async def fetched(http: httpx.AsyncClient, stays_s: float, work: Work) -> Left:
    """Make a job of a picture, follow it to its end, fetch the picture."""
    request_id = uuid.uuid4().hex
    url = await _submit(http, request_id, work)
    await _read(http, f"{url}/events")
    (await http.get(f"{url}/result")).raise_for_status()
    (await http.delete(url)).raise_for_status()
    return Left(request_id, time.time(), answered=True)


Form = Callable[[httpx.AsyncClient, float, Work], Awaitable[Left]]
LEAVING: dict[str, Form] = {"sync": sync, "job": job, "stream": stream}
EVERY: tuple[Form, ...] = (sync, job, stream, upload, served, fetched)


async def leave(
    url: str, form: Form, clients: int, seconds: float, work: Work | None = None
) -> list[Left]:
    """Let clients come at once and leave at random within ``seconds``; wait for the engine."""
    work, rng = work or Work(), random.Random(0)
    async with _client(url) as http:
        left = await asyncio.gather(
            *(form(http, rng.uniform(0, seconds), work) for _ in range(clients))
        )
    # What had waited somewhere would come to the engine now.
    await asyncio.sleep(SETTLE_S)
    await until_idle()
    return left


async def mix(url: str, count: int, seed: int = 0) -> None:
    """Send ``count`` short requests of every form, some at once; they end in every way."""
    rng = random.Random(seed)
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(form: Form, stays_s: float, work: Work) -> None:
        async with slots:
            await form(http, stays_s, work)

    async with _client(url) as http, asyncio.TaskGroup() as group:
        for number in range(count):
            form = EVERY[number % len(EVERY)]
            # Those that are waited for take less than those that are left.
            steps = rng.randint(1, 4) if form in (served, fetched) else rng.randint(50, 100)
            group.create_task(one(form, rng.uniform(0, 0.5), Work(steps)))
    await until_idle()
    await asyncio.sleep(SETTLE_S)


async def until_idle() -> None:
    """Wait until the engine has no request.

    Raises:
        TimeoutError: it keeps one.
    """
    async with asyncio.timeout(IDLE_S):
        while await ask("Upscaler", "busy"):
            await asyncio.sleep(0.05)


async def ask(deployment: str, method: str) -> Any:
    """Call a method of `watched_app`'s replicas."""
    handle = serve.get_deployment_handle(deployment, APP)
    return await getattr(handle, method).remote()


async def census() -> dict[str, dict[str, int]]:
    """What each kind of process holds, its processes together, and Ray's object store."""
    found = {kind: _holdings(processes(title)) for kind, title in KINDS.items()}
    children = psutil.Process().children(recursive=True)
    found["raylet"] = _holdings([process for process in children if process.name() == "raylet"])
    for kind in ("ingress", "jobs", "upscaler"):
        found[kind]["tasks"] = await ask(kind.capitalize(), "tasks")
    # References that were collected just now are given back behind the answer.
    await asyncio.sleep(1)
    address = ray.get_runtime_context().gcs_address
    store = get_memory_info_reply(get_state_from_address(address)).store_stats
    found["store"] = {
        "objects": store.num_local_objects,
        "memory_mb": store.object_store_bytes_used // 2**20,
    }
    return found


def aftermath(left: list[Left], batches: list[Batch]) -> dict[str, Any]:
    """What the engine did for clients that had gone."""
    steps, free_s, gaps = [], [], []
    for client in left:
        mine = [batch for batch in batches if client.request_id in batch.request_ids]
        if not mine:
            continue
        # A step denoises all tiles, decodes them, and encodes them.
        denoising = [batch.phase is Phase.DENOISE for batch in mine]
        first = [now and not before for before, now in pairwise([False, *denoising])]
        begun = [batch.begun_s for batch, is_first in zip(mine, first, strict=True) if is_first]
        gaps += np.diff(begun).tolist()
        steps.append(sum(begun_s > client.at_s for begun_s in begun))
        free_s.append(max(0.0, mine[-1].ended_s - client.at_s))
    last_s = max(client.at_s for client in left)
    return {
        "clients": len(left),
        "answered": sum(client.answered for client in left),
        "went_on": sum(client.went_on for client in left),
        "reached": len(steps),
        "steps_after": {"max": max(steps), "mean": round(float(np.mean(steps)), 2)},
        "free_after_s": {
            "p50": round(float(np.median(free_s)), 3),
            "p90": round(float(np.percentile(free_s, 90)), 3),
            "max": round(max(free_s), 3),
        },
        "idle_after_s": round(max(0.0, batches[-1].ended_s - last_s), 3),
        "step_s": round(float(np.median(gaps)), 3),
    }


async def measure(url: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run both parts."""
    report: dict[str, Any] = {}
    await mix(url, 2 * len(EVERY))
    for name, form in LEAVING.items():
        await ask("Upscaler", "batches")
        left = await leave(url, form, args.clients, args.seconds, Work(side_px=args.side_px))
        report[name] = aftermath(left, await ask("Upscaler", "batches"))
        print(json.dumps({name: report[name]}), flush=True)
    # The first requests fill pools and caches.
    await mix(url, args.requests // 4)
    await ask("Upscaler", "batches")
    found = [await census()]
    for part in range(4):
        await mix(url, args.requests // 4, seed=part)
        await ask("Upscaler", "batches")
        found.append(await census())
        print(json.dumps(found[-1]), flush=True)
    report["requests"] = 4 * (args.requests // 4)
    report["leaks"] = {
        kind: {name: [at[kind][name] for at in found] for name in found[0][kind]}
        for kind in found[0]
    }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=15, help="within which they leave")
    parser.add_argument("--side-px", type=int, default=512, help="of the first part's pictures")
    parser.add_argument("--requests", type=int, default=1000, help="of the second part")
    args = parser.parse_args()
    with service(ARGS, upscalers=1, ingresses=2, import_path=IMPORT_PATH) as url:
        print(json.dumps(asyncio.run(measure(url, args))))


def _client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=url, timeout=300, limits=limits)


@cache
def _photo(side_px: int) -> bytes:
    return photo(side_px, side_px)


def _form(request_id: str, work: Work) -> dict[str, Any]:
    return {
        "files": {"image": ("a.png", _photo(work.side_px))},
        "data": {"num_inference_steps": str(work.steps), "seed": "1"},
        "headers": {"X-Request-Id": request_id},
    }


async def _post(http: httpx.AsyncClient, request_id: str, work: Work) -> httpx.Response:
    return await http.post("/v1/upscale", **_form(request_id, work))


async def _submit(http: httpx.AsyncClient, request_id: str, work: Work) -> str:
    form = _form(request_id, work)
    form["data"]["async"] = "true"
    response = (await http.post("/v1/upscale", **form)).raise_for_status()
    return str(response.headers["location"])


async def _read(http: httpx.AsyncClient, url: str) -> None:
    async with http.stream("GET", url) as response:
        async for _ in response.aiter_bytes():
            pass


def _holdings(found: list[psutil.Process]) -> dict[str, int]:
    return {
        "threads": sum(process.num_threads() for process in found),
        "files": sum(process.num_fds() for process in found),
        "memory_mb": sum(process.memory_full_info().uss for process in found) // 2**20,
    }


if __name__ == "__main__":
    main()
