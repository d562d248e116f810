"""Hundreds of connections whose bodies drip in: what they cost a normal request beside them.

    python load_tests/slow_bodies.py

On a simulated GPU, one worker. In turns, a normal picture is asked for again and again while slow
connections are open, and while none is; half the turns begin with the one, half with the other. The
last line printed is a JSON object; the exit status is 1 where a figure misses its bound:

    connections         slow ones at once
    with_s, without_s   a normal request's time beside them and alone: the median, and how many
    ratio               of those medians
    ended               how the slow ones ended: the status or what else, and how many
    ended_after_s       when, from their first byte: the least, the median and the most
    body_timeout_s      when they should have
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import measurements
import numpy as np
from cluster import service
from pictures import photo

ARGS = {"model": "simulated:sd3.5-medium-h100", "upscale_timeout_s": 600}
IMPORT_PATH = "deployments.app:build_app"
SIDE_PX = 256
STEPS = 40  # 1.3 s
WARM_UP = 3
GIVE_UP = 3  # times the body's time
MOST_RATIO = 1.2


@dataclass(frozen=True, slots=True)
class End:
    """How a slow connection ended: its status, or what else."""

    outcome: str
    after_s: float


async def slow(url: str, every_s: float, give_up_s: float) -> End:
    """Send a byte of a body every so often until there is an answer."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    start_s = time.perf_counter()
    head = (
        "POST /v1/upscale HTTP/1.1\r\nHost: slow\r\nContent-Length: 100000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    )
    writer.write(head.encode())
    answer = asyncio.create_task(reader.readline())
    try:
        async with asyncio.timeout(give_up_s):
            while not answer.done():
                writer.write(b"x")
                await asyncio.wait([answer], timeout=every_s)
        status = (await answer).split()[1:2]
        return End(status[0].decode() if status else "closed", time.perf_counter() - start_s)
    except (TimeoutError, OSError) as err:
        return End(type(err).__name__, time.perf_counter() - start_s)
    finally:
        answer.cancel()
        writer.close()


async def normal(http: httpx.AsyncClient) -> float:
    """Return the seconds that a picture took."""
    start_s = time.perf_counter()
    files, fields = {"image": ("a.png", photo(SIDE_PX, SIDE_PX))}, {"num_inference_steps": STEPS}
    (await http.post("/v1/upscale", files=files, data=fields)).raise_for_status()
    return time.perf_counter() - start_s


async def normals(http: httpx.AsyncClient, seconds: float) -> list[float]:
    """One picture after another for as long as that; the last ends before."""
    times, end_s = [], time.perf_counter() + seconds
    while time.perf_counter() + max(times, default=0.0) < end_s:
        times.append(await normal(http))
    return times


async def measure(url: str, args: argparse.Namespace) -> dict[str, Any]:
    """Take turns."""
    times: dict[bool, list[float]] = {True: [], False: []}
    ended: list[End] = []
    give_up_s = GIVE_UP * args.body_timeout_s
    async with httpx.AsyncClient(base_url=url, timeout=300) as http:
        for _ in range(WARM_UP):
            await normal(http)
        for turn in range(args.rounds):
            for beside in (True, False) if turn % 2 else (False, True):
                crowd = [
                    asyncio.create_task(slow(url, args.every_s, give_up_s))
                    for _ in range(args.connections if beside else 0)
                ]
                # All are open by then, and none has been answered by the end.
                await asyncio.sleep(0.1 * args.body_timeout_s)
                times[beside] += await normals(http, 0.8 * args.body_timeout_s)
                ended += await asyncio.gather(*crowd)
            print({k: [round(s, 2) for s in v] for k, v in times.items()}, flush=True)
    medians = {beside: float(np.median(found)) for beside, found in times.items()}
    after_s = [end.after_s for end in ended]
    return {
        "connections": args.connections,
        "with_s": [round(medians[True], 3), len(times[True])],
        "without_s": [round(medians[False], 3), len(times[False])],
        "ratio": round(medians[True] / medians[False], 3),
        "ended": Counter(end.outcome for end in ended),
        "ended_after_s": [round(float(f(after_s)), 2) for f in (np.min, np.median, np.max)],
        "body_timeout_s": args.body_timeout_s,
    }


def misses(figures: dict[str, Any]) -> list[str]:
    """Say in words which promise the figures do not hold."""
    bounds = {
        f"ratio > {MOST_RATIO}": figures["ratio"] > MOST_RATIO,
        "a slow body ended with something else than 408": set(figures["ended"]) != {"408"},
    }
    return [words for words, missed in bounds.items() if missed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--every-s", type=float, default=1, help="between two bytes of a body")
    parser.add_argument("--body-timeout-s", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=6)
    measurements.add_option(parser)
    args = parser.parse_args()
    # A crowd that comes at once is a burst of requests, of which none shall be refused here.
    limits = {"body_timeout_s": args.body_timeout_s, "max_wait_s": 3600}
    given = ARGS | {"limits": limits}
    with service(given, upscalers=1, ingresses=1, import_path=IMPORT_PATH) as url:
        figures = asyncio.run(measure(url, args))
    if args.save:
        measurements.save("slow_bodies", figures)
    print(json.dumps(figures), flush=True)
    sys.exit("; ".join(misses(figures)) or 0)


if __name__ == "__main__":
    main()
