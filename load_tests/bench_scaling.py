"""More replicas, more pictures; and what the service itself adds to each.

    python load_tests/bench_scaling.py

A simulated GPU, slowed so that image coding on this machine's cores is not the limit; one ingress
replica. The last line is a JSON object:

per_s               pictures a second at saturation, by the number of replicas
efficiency          that a replica, over what one alone does
added_ms            of one picture at a time, by the part of the way (medians); `rest` is upload,
                    proxy and download: what the client sees less what the server accounts for
ingress_cpu_ms      CPU time of the ingress a request, for a picture and for a tiny flat one, which
                    is all HTTP
ingress_per_s       the requests a second that one ingress replica's core could take of those
tiny_per_s          tiny requests a second seen here, beside client, proxy and worker on two cores
"""

import argparse
import asyncio
import json
import time
from statistics import median
from typing import Any

import aiohttp
import psutil
from arrivals import Kind
from closed_loop import ask, keep_busy, per_second
from cluster import APP, INGRESS, configured, deploy, deployment_of, processes, running
from ray import serve

PICTURE = Kind(steps=8)
QUICK = Kind(steps=1)
TINY = Kind(height_px=1, width_px=1, steps=1)
CLIENTS_A_REPLICA = 5  # of which the replica takes four, and one waits


def settings(slow: float) -> dict[str, Any]:
    """The service's settings over those of the file."""
    return {"model": f"simulated:sd3.5-medium-h100?slow={slow:g}", "limits": {"max_wait_s": 600}}


def resize(config: dict[str, Any], upscalers: int, timeout_s: float = 300) -> None:
    """Make it so many workers and wait until they run."""
    deployment_of(config, "Upscaler")["num_replicas"] = upscalers
    deploy(config)
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        states = serve.status().applications[APP].deployments["Upscaler"].replica_states
        if states == {"RUNNING": upscalers}:
            return
        time.sleep(0.5)
    raise TimeoutError(f"not {upscalers} workers after {timeout_s:.0f} s")


async def scaling(
    url: str, config: dict[str, Any], counts: list[int], seconds: float
) -> dict[str, Any]:
    """Return pictures a second with each number of workers, the fewest first."""
    found: dict[int, float] = {}
    for upscalers in counts:
        await asyncio.to_thread(resize, config, upscalers)
        # Few workers finish few pictures: they are given longer.
        lasts_s = seconds * max(1.0, 4 / upscalers)
        answers = await keep_busy(url, [PICTURE], CLIENTS_A_REPLICA * upscalers, lasts_s)
        found[upscalers] = per_second(answers, lasts_s)
        print(f"{upscalers} workers: {found[upscalers]:.2f} pictures a second", flush=True)
    one = found[counts[0]] / counts[0]
    return {
        "per_s": {count: round(rate, 3) for count, rate in found.items()},
        "efficiency": {count: round(rate / count / one, 3) for count, rate in found.items()},
    }


async def added(url: str, requests: int) -> dict[str, float]:
    """Return the milliseconds of each part of the way of one picture at a time."""
    async with aiohttp.ClientSession(url, raise_for_status=True) as http:
        answers = [await ask(http, QUICK, number) for number in range(requests + 3)][3:]
    parts = [
        {**a.server_ms, "rest": 1e3 * (a.done_s - a.sent_s) - sum(a.server_ms.values())}
        for a in answers
    ]
    return {name: round(median(part[name] for part in parts), 1) for name in parts[0]}


async def ingress(url: str, seconds: float) -> dict[str, Any]:
    """Return what a request costs the one ingress replica, and how many it takes."""
    cpu_ms, rates = {}, {}
    (process,) = processes(INGRESS)
    for name, kind in (("picture", QUICK), ("tiny", TINY)):
        before_s = _cpu_s(process)
        answers = await keep_busy(url, [kind], 16, seconds)
        cpu_ms[name] = 1e3 * (_cpu_s(process) - before_s) / len(answers)
        rates[name] = per_second(answers, seconds)
    return {
        "ingress_cpu_ms": {name: round(ms, 2) for name, ms in cpu_ms.items()},
        "ingress_per_s": {name: round(1e3 / ms, 1) for name, ms in cpu_ms.items()},
        "tiny_per_s": round(rates["tiny"], 1),
    }


async def measure(
    url: str, config: dict[str, Any], counts: list[int], seconds: float, requests: int
) -> dict[str, Any]:
    """Return every figure; the workers stay as many as the last count says."""
    figures = await scaling(url, config, counts, seconds)
    return {
        **figures,
        "added_ms": await added(url, requests),
        **await ingress(url, seconds / 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=25, help="of load, for 4 or more replicas")
    parser.add_argument("--slow", type=float, default=5, help="than the GPU's figures")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--requests", type=int, default=40, help="one at a time")
    args = parser.parse_args()
    config = configured(settings(args.slow), {"Upscaler": args.replicas[0], "Ingress": 1})
    with running(config) as url:
        figures = asyncio.run(measure(url, config, args.replicas, args.seconds, args.requests))
    print(json.dumps({**figures, "slow": args.slow}), flush=True)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
