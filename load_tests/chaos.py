"""Every fault once, and replicas and the controller killed for minutes, under a steady load.

    python load_tests/chaos.py

Requests arrive at random, at a steady rate well below what two replicas on two cores can do; each
is one of a few pictures whose answers are known from before the first fault. A request is lost
unless the service itself answers it with 200, and wrong if that is not the known picture. One line
of JSON a fault; the last line printed is the sum.
"""

import argparse
import asyncio
import io
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import numpy as np
from cluster import (
    APP,
    CONTROLLER,
    INGRESS,
    UPSCALER,
    processes,
    service,
    wait_until_healthy,
)
from pictures import photo
from PIL import Image
from ray import serve

STEPS = 4
SCALE = 4
SEEDS = range(4)
# Rows of a batch differ from rows alone by rounding errors, which may tip a sample over.
TOLERANCE = 0.05

Strike = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request; `outcome` is its status, or the exception's name."""

    seconds: float
    outcome: str
    wrong: bool


async def ask(http: httpx.AsyncClient, seed: int) -> httpx.Response:
    """Send the picture of a seed."""
    fields = {"seed": str(seed), "num_inference_steps": str(STEPS), "scale": str(SCALE)}
    return await http.post(
        "/v1/upscale", files={"image": ("a.png", photo(24, 32, seed))}, data=fields
    )


async def known_answers(http: httpx.AsyncClient) -> dict[int, np.ndarray]:
    """Each seed's picture, from replicas in good health."""
    answers = {}
    for seed in SEEDS:
        response = (await ask(http, seed)).raise_for_status()
        answers[seed] = _pixels(response.content)
    return answers


async def under_load(
    http: httpx.AsyncClient,
    known: dict[int, np.ndarray],
    *,
    seconds: float,
    rate: float,
    strike: Strike | None = None,
    every_s: float = 45.0,
) -> list[Answer]:
    """Send requests for a while and wait for all of them, while faults strike.

    Args:
        rate: requests a second; they do not wait for each other.
        strike: causes the fault, the first time after a fifth of `every_s`.
    """
    faults = asyncio.create_task(_strikes(strike, every_s)) if strike else None
    end_s = time.monotonic() + seconds
    sent = await _sent(http, known, rate, lambda: time.monotonic() < end_s)
    if faults:
        faults.cancel()
        await asyncio.gather(faults, return_exceptions=True)
        if faults.done() and not faults.cancelled() and (err := faults.exception()):
            raise err
    return list(await asyncio.gather(*sent))


async def load_until(
    done: asyncio.Event,
    http: httpx.AsyncClient,
    known: dict[int, np.ndarray],
    *,
    rate: float,
) -> list[Answer]:
    """Send requests until something is done, and wait for all of them."""
    sent = await _sent(http, known, rate, lambda: not done.is_set())
    return list(await asyncio.gather(*sent))


async def kill(title: str, rng: random.Random) -> None:
    """SIGKILL one of the processes of that title."""
    alive = processes(title)
    if alive:
        os.kill(rng.choice(alive).pid, signal.SIGKILL)


async def inject(fault: str) -> int:
    """Make the next batch of some replica fail; return its process's id."""
    upscaler = serve.get_deployment_handle("Upscaler", APP)
    pid: int = await upscaler.inject.remote(fault)
    return pid


def summary(answers: list[Answer]) -> dict[str, Any]:
    """Counts, and the time from sending to the last byte of those that were answered."""
    times = [answer.seconds for answer in answers if answer.outcome == "200"] or [float("nan")]
    outcomes = Counter(answer.outcome for answer in answers if answer.outcome != "200")
    return {
        "requests": len(answers),
        "lost": sum(outcomes.values()),
        "wrong": sum(answer.wrong for answer in answers),
        "p50_s": round(float(np.percentile(times, 50)), 2),
        "p99_s": round(float(np.percentile(times, 99)), 2),
        "max_s": round(max(times), 2),
        **({"outcomes": dict(outcomes)} if outcomes else {}),
    }


async def _answer(http: httpx.AsyncClient, known: dict[int, np.ndarray], seed: int) -> Answer:
    start_s = time.monotonic()
    try:
        response = await ask(http, seed)
    except httpx.HTTPError as err:
        return Answer(time.monotonic() - start_s, type(err).__name__, wrong=False)
    seconds = time.monotonic() - start_s
    if response.status_code != 200:
        return Answer(seconds, f"{response.status_code} {_code(response)}", wrong=False)
    found = _pixels(response.content)
    right = (
        response.headers["x-seed"] == str(seed)
        and found.shape == known[seed].shape
        and float(np.abs(found - known[seed]).mean()) < TOLERANCE
    )
    return Answer(seconds, "200", wrong=not right)


async def _sent(
    http: httpx.AsyncClient,
    known: dict[int, np.ndarray],
    rate: float,
    more: Callable[[], bool],
) -> list[asyncio.Task[Answer]]:
    rng, sent = random.Random(0), []
    while more():
        sent.append(asyncio.create_task(_answer(http, known, rng.choice(SEEDS))))
        await asyncio.sleep(rng.expovariate(rate))
    return sent


async def _strikes(strike: Strike, every_s: float) -> None:
    await asyncio.sleep(every_s / 5)
    while True:
        await strike()
        await asyncio.sleep(every_s)


def _code(response: httpx.Response) -> str:
    """A problem's code, or the beginning of what is none."""
    try:
        return str(response.json()["code"])
    except (ValueError, KeyError, TypeError):
        return response.text[:40]


def _pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image).astype(int)


async def run(url: str, options: argparse.Namespace) -> list[Answer]:
    """Strike with each fault in turn, print what became of the requests, and return it."""
    rng = random.Random(1)
    phases: list[tuple[str, float, Strike | None]] = [
        ("none", options.seconds / 5, None),
        ("replica_killed", options.seconds, partial(kill, UPSCALER, rng)),
        ("controller_killed", options.seconds, partial(kill, CONTROLLER, rng)),
        ("out_of_memory_of_a_batch", options.every, partial(inject, "out_of_memory_of_a_batch")),
        ("lost_device", options.every, partial(inject, "lost_device")),
        ("hang", options.every, partial(inject, "hang")),
        ("ingress_killed", options.every, partial(kill, INGRESS, rng)),
    ]
    everything: list[Answer] = []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url, timeout=options.deadline + 10, limits=limits
    ) as http:
        known = await known_answers(http)
        for name, seconds, strike in phases:
            if options.only and name not in options.only:
                continue
            answers = await under_load(
                http,
                known,
                seconds=seconds,
                rate=options.rate,
                strike=strike,
                every_s=options.every,
            )
            everything += answers
            await asyncio.to_thread(wait_until_healthy)
            print(json.dumps({"fault": name, **summary(answers)}), flush=True)
    return everything


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--seconds", type=float, default=300, help="of the two long phases each")
    parser.add_argument("--every", type=float, default=45, help="seconds between two strikes")
    parser.add_argument("--rate", type=float, default=0.5, help="requests a second")
    parser.add_argument("--deadline", type=float, default=120, help="seconds of a request")
    parser.add_argument("--only", nargs="+", metavar="FAULT", help="of those that are listed")
    options = parser.parse_args()
    args = {
        "model": options.model,
        "threads": 1,
        "upscale_timeout_s": options.deadline,
        "heartbeat_limit_s": 15,
    }
    with service(args, import_path="faulty_app:build_app") as url:
        everything = asyncio.run(run(url, options))
    print(json.dumps(summary(everything)))


if __name__ == "__main__":
    main()
