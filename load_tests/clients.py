"""Clients that end in every way: answered, gone while they wait, broken off, cancelled."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx
from pictures import photo


def connect(url: str) -> httpx.AsyncClient:
    """A client whose connections are of one request each: who leaves, closes one."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=url, timeout=300, limits=limits)


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked for: a square picture and the steps to take; by default, without an end."""

    steps: int = 1000
    side_px: int = 256
    image_format: str = "png"
    output_format: str = "png"


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


@cache
def _photo(side_px: int, image_format: str) -> bytes:
    return photo(side_px, side_px, image_format=image_format)


def _form(request_id: str, work: Work) -> dict[str, Any]:
    return {
        "files": {"image": ("a.png", _photo(work.side_px, work.image_format))},
        "data": {
            "num_inference_steps": str(work.steps),
            "output_format": work.output_format,
            "seed": "1",
        },
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
