"""Clients that ask again once they are answered: what a service does when it is never idle."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
from arrivals import Arrival, Kind
from open_loop import HEADERS, body


@dataclass(frozen=True, slots=True)
class Answer:
    """A picture that came; times in seconds of `time.perf_counter`.

    Attributes:
        server_ms: of `Server-Timing`.
    """

    kind: Kind
    sent_s: float
    done_s: float
    server_ms: dict[str, float]


async def keep_busy(
    url: str, kinds: Sequence[Kind], clients: int, seconds: float, *, seed: int = 0
) -> list[Answer]:
    """Return the answers to so many clients, in order; after ``seconds`` they ask no more.

    Raises:
        aiohttp.ClientError: an answer was no picture.
    """
    rng, answers = random.Random(seed), []
    shares = [kind.share for kind in kinds]
    end_s = time.perf_counter() + seconds
    async with aiohttp.ClientSession(
        url,
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=600),
        raise_for_status=True,
    ) as http:

        async def client() -> None:
            while time.perf_counter() < end_s:
                (kind,) = rng.choices(kinds, shares)
                answers.append(await ask(http, kind, rng.randrange(2**32)))

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
    return answers


async def ask(http: aiohttp.ClientSession, kind: Kind, seed: int) -> Answer:
    """Send one picture and wait for it."""
    request = body(Arrival(0, 0.0, kind, seed))
    sent_s = time.perf_counter()
    async with http.post("/v1/upscale", data=request, headers=HEADERS) as response:
        await response.read()
        parts = (part.partition(";dur=") for part in response.headers["Server-Timing"].split(", "))
        timing = {name: float(ms) for name, _, ms in parts}
    return Answer(kind, sent_s, time.perf_counter(), timing)


def per_second(answers: Sequence[Answer], seconds: float, *, skip: float = 0.25) -> float:
    """Return pictures a second, the first ``skip`` of the time left out.

    From one answer to another, so that it does not matter where in a picture the time ends.
    """
    start_s = min(answer.sent_s for answer in answers)
    ends = sorted(a.done_s for a in answers if skip <= (a.done_s - start_s) / seconds <= 1)
    return (len(ends) - 1) / (ends[-1] - ends[0])
