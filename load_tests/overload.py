"""Three times as many requests as the service can do, for two minutes, and one polite client.

    python load_tests/overload.py

A simulated GPU does the work, 0.4 s a picture of 1024 × 1024 px, so that it and not this machine's
cores is what there is too little of. Capacity is measured first, by as many clients as keep it
busy. Then requests arrive at random at a multiple of it; whoever is refused does not come again,
save for one client, which waits for as long as its Retry-After says. Its last line is one JSON
object; the exit status is 1 where a figure misses its bound.

served_vs_capacity      pictures a second under overload, over those of the closed loop
refusal_server_p99_ms   from a request's headers to the end of its refusal, in the server's log
refusal_p99_ms          the same as its client sees it, on this machine beside everything else
polite                  the polite client's pictures and refusals
memory_growth           resident memory of all of the service's processes, at the end over one
                        third of the way
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import measurements
import numpy as np
import psutil
from arrivals import Kind, Piece, at_their_times, poisson
from cluster import REPLICA, processes, serve_logs, service
from pictures import photo

ARGS = {
    "model": "simulated:sd3.5-medium-h100",
    "max_active": 4,
    "upscale_timeout_s": 60,
    "limits": {
        "max_input_pixels": 2**16,
        "max_output_pixels": 2**20,
        "max_body_bytes": 2**20,
        "max_wait_s": 5,
    },
}
CLIENTS = 8
LEAST_SERVED = 0.9  # of capacity
MOST_REFUSAL_MS = 100
REFUSED = re.compile(r"POST /v1/upscale 503 overloaded, ([0-9.]+) s")


@dataclass(slots=True)
class Counts:
    """What came of one load; times in seconds."""

    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


async def ask(http: httpx.AsyncClient, image: bytes, steps: int, counts: Counts) -> httpx.Response:
    """Send one picture and count what becomes of it."""
    start_s = time.perf_counter()
    response = await http.post(
        "/v1/upscale", files={"image": ("a.png", image)}, data={"num_inference_steps": str(steps)}
    )
    seconds = time.perf_counter() - start_s
    if response.status_code == 200:
        counts.served.append(seconds)
    elif response.status_code == 503 and "retry-after" in response.headers:
        counts.refused.append(seconds)
    else:
        counts.other.append(f"{response.status_code} {response.text[:80]}")
    return response


async def closed_loop(http: httpx.AsyncClient, image: bytes, steps: int, seconds: float) -> float:
    """Return pictures a second with as many clients as keep the service busy."""
    counts, end_s = Counts(), time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < end_s:
            await ask(http, image, steps, counts)

    start_s = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    if counts.refused or counts.other:
        raise SystemExit(f"refused while measuring capacity: {counts.refused} {counts.other}")
    return len(counts.served) / (time.perf_counter() - start_s)


async def open_loop(
    http: httpx.AsyncClient, image: bytes, steps: int, rate: float, seconds: float
) -> Counts:
    """Send requests at random times, ``rate`` a second, none waiting for another."""
    counts = Counts()
    await at_their_times(
        poisson([Piece(rate, seconds)], [Kind()]), lambda arrival: ask(http, image, steps, counts)
    )
    return counts


async def polite(http: httpx.AsyncClient, image: bytes, steps: int, counts: Counts) -> None:
    """One picture after another, coming again when the answer says so."""
    while True:
        response = await ask(http, image, steps, counts)
        if response.status_code == 503:
            await asyncio.sleep(int(response.headers["retry-after"]))


async def resident(into: list[float]) -> None:
    """Add the service's resident memory, in MB, every few seconds."""
    while True:
        into.append(sum(_rss(process) for process in processes(REPLICA)) / 1e6)
        await asyncio.sleep(3)


def refusals(logs: Path) -> Iterator[float]:
    """Seconds that each refusal took in the server, of its own log."""
    for path in logs.glob("replica_*Ingress*.log"):
        for found in REFUSED.finditer(path.read_text()):
            yield float(found[1])


async def measure(url: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure capacity, then what overload does."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=CLIENTS)
    image, well_behaved, memory = photo(256, 256), Counts(), []
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as http:
        await closed_loop(http, image, args.steps, 5)
        capacity = await closed_loop(http, image, args.steps, args.seconds / 4)
        print(f"capacity {capacity:.1f} pictures a second", flush=True)
        beside = [
            asyncio.create_task(polite(http, image, args.steps, well_behaved)),
            asyncio.create_task(resident(memory)),
        ]
        start_s = time.perf_counter()
        counts = await open_loop(http, image, args.steps, args.times * capacity, args.seconds)
        seconds = time.perf_counter() - start_s
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
    served = len(counts.served) + len(well_behaved.served)
    in_server = list(refusals(serve_logs()))
    return {
        "capacity_per_s": round(capacity, 2),
        "offered": len(counts.served) + len(counts.refused) + len(counts.other),
        "served": served,
        "refused": len(counts.refused),
        "other": sorted(set(counts.other)),
        "served_vs_capacity": round(served / seconds / capacity, 3),
        "served_p99_s": round(float(np.percentile(counts.served, 99)), 2),
        "refusal_server_p99_ms": round(1e3 * float(np.percentile(in_server, 99)), 1),
        "refusal_p99_ms": round(1e3 * float(np.percentile(counts.refused, 99)), 1),
        "polite": {"served": len(well_behaved.served), "refused": len(well_behaved.refused)},
        "memory_growth": round(memory[-1] / memory[len(memory) // 3], 3),
    }


def misses(figures: dict[str, Any]) -> list[str]:
    """Say in words which promise the figures do not hold."""
    bounds = {
        f"served_vs_capacity < {LEAST_SERVED}": figures["served_vs_capacity"] < LEAST_SERVED,
        f"refusal_server_p99_ms > {MOST_REFUSAL_MS}": (
            figures["refusal_server_p99_ms"] > MOST_REFUSAL_MS
        ),
        "the polite client got nothing": not figures["polite"]["served"],
        "answers that are neither pictures nor refusals": bool(figures["other"]),
    }
    return [words for words, missed in bounds.items() if missed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--times", type=float, default=3)
    parser.add_argument("--steps", type=int, default=12)
    measurements.add_option(parser)
    args = parser.parse_args()
    with service(ARGS, upscalers=1, ingresses=1) as url:
        figures = asyncio.run(measure(url, args))
    if args.save:
        measurements.save("overload", figures)
    print(json.dumps(figures), flush=True)
    sys.exit("; ".join(misses(figures)) or 0)


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()
