"""The whole service against the engine alone: the bundled model, real work, one thread, in turns.

    python load_tests/bench_http.py

The same pictures are made over HTTP, as many at once as the worker takes and one more, and by an
engine in this process; the other one is idle meanwhile. The last line is a JSON object:

ratio       pictures a second over HTTP, over those of the engine alone; median of the rounds
rounds      each round's ratio
"""

import argparse
import asyncio
import io
import json
import time
from statistics import median
from typing import Any

import aiohttp
import bench_engine
import measurements
import torch
from cluster import configured, deployment_of, running
from PIL import Image

from nullscale.networks.loading import load_model
from sr_engine.engine import SREngine
from sr_engine.events import RequestFailure, UpscaleResult
from sr_engine.request import UpscaleRequest

SETTINGS = {"threads": 1, "limits": {"max_wait_s": 600}}


def alone(engine: SREngine, given: list[UpscaleRequest]) -> float:
    """Return the seconds that the engine takes for all of them."""
    started_s = time.perf_counter()
    for request in given:
        engine.add_request(request)
    done = 0
    while engine.has_work():
        for event in engine.step():
            if isinstance(event, RequestFailure):
                raise event.error
            done += isinstance(event, UpscaleResult)
    assert done == len(given)
    return time.perf_counter() - started_s


async def over_http(url: str, given: list[UpscaleRequest], at_once: int) -> float:
    """Return the seconds that the service takes for all of them."""
    files = [(str(request.params.seed), _png(request)) for request in given]
    places = asyncio.Semaphore(at_once)

    async def ask(http: aiohttp.ClientSession, seed: str, image: bytes) -> None:
        form = aiohttp.FormData({"seed": seed})
        form.add_field("image", image, filename="a.png", content_type="image/png")
        async with places, http.post("/v1/upscale", data=form) as response:
            await response.read()

    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(url, timeout=timeout, raise_for_status=True) as http:
        started_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for seed, image in files:
                group.create_task(ask(http, seed, image))
        return time.perf_counter() - started_s


def measure(
    url: str, engine: SREngine, given: list[UpscaleRequest], at_once: int, rounds: int
) -> dict[str, Any]:
    """Return the ratio of each round; before them, one that does not count."""
    ratios, per_s = [], []
    for number in range(rounds + 1):
        http_s = asyncio.run(over_http(url, given, at_once))
        alone_s = alone(engine, given)
        print(f"round {number}: HTTP {http_s:.1f} s, the engine {alone_s:.1f} s", flush=True)
        if number:
            ratios.append(alone_s / http_s)
            per_s.append(len(given) / http_s)
    return {
        "ratio": round(median(ratios), 3),
        "rounds": [round(ratio, 3) for ratio in ratios],
        "pictures_per_s": round(median(per_s), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=12, help="a round")
    parser.add_argument("--side-px", type=int, default=96, help="of the largest input")
    parser.add_argument("--rounds", type=int, default=5)
    measurements.add_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = configured(SETTINGS, {"Upscaler": 1, "Ingress": 1})
    upscaler = deployment_of(config, "Upscaler")
    engine = SREngine(
        load_model("bundled", device="cpu", dtype="float32"),
        max_active=upscaler["user_config"]["max_active"],
    )
    given = bench_engine.requests(engine, args.pictures, args.side_px)
    with running(config) as url:
        figures = measure(url, engine, given, upscaler["max_ongoing_requests"] + 1, args.rounds)
    figures |= {"pictures": args.pictures, "side_px": args.side_px}
    if args.save:
        measurements.save("bench_http", figures)
    print(json.dumps(figures), flush=True)


def _png(request: UpscaleRequest) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(request.image).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
