"""Latency, throughput and batches against offered load, open loop.

    python load_tests/load_curve.py

One worker with a simulated GPU, one ingress replica, pictures of 1024 × 1024 px that take the GPU
0.4 s, as in `overload.py`. Capacity is measured first, by as many clients as keep it busy; then
requests arrive at random at shares of it. Its last line is one JSON object:

    capacity_per_s      pictures a second of the closed loop
    points              for each share of it: requests, what was offered and served a second, the
                        share refused, latency from the intended time, rows a batch by phase, and
                        the share of the time that the engine had work
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import exported
import httpx
import measurements
from arrivals import Kind, Piece, poisson
from cluster import service
from open_loop import drive, summary
from overload import ARGS, closed_loop
from pictures import photo

SHARES = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
SIDE_PX = 256
WARM_UP_S = 5


async def capacity(url: str, steps: int, seconds: float) -> float:
    """Return pictures a second of a service that is kept busy."""
    image = photo(SIDE_PX, SIDE_PX)
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:
        await closed_loop(http, image, steps, WARM_UP_S)
        return await closed_loop(http, image, steps, seconds)


def point(url: str, rate: float, steps: int, seconds: float, seed: int) -> dict[str, Any]:
    """Return the figures at one rate of arrivals."""
    before, start_s = exported.counts(), time.perf_counter()
    arrivals = poisson([Piece(rate, seconds)], [Kind("any", SIDE_PX, SIDE_PX, steps)], seed=seed)
    records = asyncio.run(drive(url, arrivals))
    ran_s = time.perf_counter() - start_s
    after = exported.counts()
    # The queue that there is in the long run builds up first.
    found = summary(records, seconds, skip_s=seconds / 6)
    refused = sum(n for outcome, n in found["outcomes"].items() if outcome.startswith("503"))
    return {
        **{name: found[name] for name in ("requests", "outcomes", "offered_per_s")},
        "served_per_s": found["served_per_s"],
        "refused_share": round(refused / found["requests"], 4),
        "latency_s": found["latency_s"],
        "rows": exported.occupancy(before, after),
        "busy_share": round((after["busy_s"] - before.get("busy_s", 0.0)) / ran_s, 3),
        "sent_late_p99_ms": found["sent_late_p99_ms"],
    }


def measure(url: str, shares: Sequence[float], steps: int, seconds: float) -> dict[str, Any]:
    """Measure capacity, then every share of it."""
    capacity_per_s = asyncio.run(capacity(url, steps, seconds / 4))
    print(f"capacity {capacity_per_s:.2f} pictures a second", flush=True)
    points = []
    for seed, share in enumerate(shares):
        points.append({"share": share, **point(url, share * capacity_per_s, steps, seconds, seed)})
        print(json.dumps(points[-1]), flush=True)
    return {"capacity_per_s": round(capacity_per_s, 3), "points": points}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=ARGS["model"])
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=120, help="of each share")
    measurements.add_option(parser)
    args = parser.parse_args()
    with service(ARGS | {"model": args.model}, upscalers=1, ingresses=1) as url:
        found = measure(url, args.shares, args.steps, args.seconds)
    if args.save:
        measurements.save("load_curve", found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
