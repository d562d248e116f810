"""Replicas are replaced under a steady load: how many requests that costs.

    python load_tests/upgrade.py

Two replicas of each sort on a simulated GPU, requests at random times, and four deployments of
another configuration, one after the other, each awaited: a new release of the Upscaler alone, of
the Ingress alone, other arguments of the application (which replace every replica), and limits that
change in running ones. One line of JSON a change; the last line printed is the sum, and the exit
status is 1 where a request was lost.

lost            requests that were not answered with 200 and the known picture
replaced        processes that are new, of those that run
slowest_s       longest time of a request
took_s          from the command to the end of the last old replica
"""

import argparse
import asyncio
import copy
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import chaos
import httpx
import numpy as np
from cluster import (
    REPLICA,
    configured,
    deploy,
    deployment_of,
    processes,
    running,
    wait_until_healthy,
)

Config = dict[str, Any]
Change = Callable[[Config], None]

ARGS = {
    # A picture takes half a second of its device, so that some are under way whenever a replica is
    # to stop, and next to nothing of the cores, which five replicas that start have for themselves.
    "model": "simulated:sd3.5-medium-h100?slow=300",
    "max_active": 4,
    "threads": 1,
    "upscale_timeout_s": 120,
}
DRAIN_S = 130
CLIENT_S = 150  # the service ends a request, not its client


def release(name: str) -> Change:
    """Replace one deployment's replicas, as a node's new image is taken into use."""

    def change(config: Config) -> None:
        environment = {"env_vars": {"NULLSCALE_RELEASE": "2"}}
        deployment_of(config, name)["ray_actor_options"]["runtime_env"] = environment

    return change


def arguments(config: Config) -> None:
    """Replace every replica."""
    config["applications"][0]["args"]["heartbeat_limit_s"] = 90


def limits(config: Config) -> None:
    """Change what running replicas go by."""
    deployment_of(config, "Upscaler")["user_config"]["max_active"] = 3
    deployment_of(config, "Ingress")["user_config"]["limits"]["max_wait_s"] = 300


CHANGES: dict[str, Change] = {
    "release_of_the_upscaler": release("Upscaler"),
    "release_of_the_ingress": release("Ingress"),
    "arguments": arguments,
    "limits": limits,
}


def draining(surge_percent: int) -> Config:
    """Return the configuration of two replicas each, that end what they have begun."""
    config = configured(ARGS, {"Upscaler": 2, "Ingress": 2})
    for name in ("Upscaler", "Ingress"):
        part = deployment_of(config, name)
        part["graceful_shutdown_timeout_s"] = DRAIN_S
        part["max_surge_percent"] = surge_percent
    return config


async def upgrade(
    http: httpx.AsyncClient, known: dict[int, np.ndarray], config: Config, rate: float
) -> dict[str, Any]:
    """Deploy a configuration in the middle of a load that lasts until the last replica is new."""
    before = pids()
    done = asyncio.Event()
    load = asyncio.create_task(chaos.load_until(done, http, known, rate=rate))
    await asyncio.sleep(3)
    begun_s = time.monotonic()
    await asyncio.to_thread(deploy, config)
    await asyncio.to_thread(wait_until_healthy)
    took_s = time.monotonic() - begun_s
    await asyncio.sleep(3)
    done.set()
    answers = await load
    after = pids()
    return {
        **chaos.summary(answers),
        "replaced": {name: len(after[name] - before[name]) for name in after},
        "took_s": round(took_s, 1),
    }


def pids() -> dict[str, set[int]]:
    """Return the processes of each deployment's replicas."""
    return {
        name: {process.pid for process in processes(REPLICA + name)}
        for name in ("Upscaler", "Ingress", "Jobs")
    }


async def run(url: str, config: Config, rate: float) -> list[dict[str, Any]]:
    """Make each change in turn, on top of those before, and print what it cost."""
    found = []
    async with httpx.AsyncClient(
        base_url=url, timeout=CLIENT_S, limits=httpx.Limits(max_connections=None)
    ) as http:
        known = await chaos.known_answers(http)
        for name, change in CHANGES.items():
            config = copy.deepcopy(config)
            change(config)
            figures = await upgrade(http, known, config, rate)
            print(json.dumps({"change": name, **figures}), flush=True)
            found.append(figures)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rate", type=float, default=2, help="requests a second")
    parser.add_argument("--surge", type=int, default=100, help="max_surge_percent")
    options = parser.parse_args()
    if " " in sys.executable:
        parser.error("Ray starts no worker with a runtime_env from a folder with a space in it")
    config = draining(options.surge)
    with running(config) as url:
        found = asyncio.run(run(url, config, options.rate))
    total = {key: sum(figures[key] for figures in found) for key in ("requests", "lost", "wrong")}
    print(json.dumps({**total, "slowest_s": max(figures["max_s"] for figures in found)}))
    sys.exit(bool(total["lost"] or total["wrong"]))


if __name__ == "__main__":
    main()
