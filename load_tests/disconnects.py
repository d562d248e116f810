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
from itertools import pairwise
from typing import Any

import measurements
import numpy as np
import ray
from clients import EVERY, LEAVING, Form, Left, Work, connect, fetched, served
from cluster import APP, service
from holdings import holdings
from ray import serve
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from watched_app import Batch

from nullscale.scheduling.work import Phase

IMPORT_PATH = "watched_app:build_app"
ARGS = {
    "model": "simulated:sd3.5-medium-h100",
    "max_active": 4,
    # Nothing is refused for want of time.
    "upscale_timeout_s": 1e6,
    "limits": {"max_wait_s": 1e6},
    "jobs": {"timeout_s": 1e6, "max_unfinished_a_key": 256},
}
AT_ONCE = 20
SETTLE_S = 3.0
IDLE_S = 20.0  # one picture that stayed would take longer


async def leave(
    url: str, form: Form, clients: int, seconds: float, work: Work | None = None
) -> list[Left]:
    """Let clients come at once and leave at random within ``seconds``; wait for the engine."""
    work, rng = work or Work(), random.Random(0)
    async with connect(url) as http:
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

    async with connect(url) as http, asyncio.TaskGroup() as group:
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


async def census() -> dict[str, dict[str, float]]:
    """What each kind of process holds, its processes together, and Ray's object store."""
    found = holdings()
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
    measurements.add_option(parser)
    args = parser.parse_args()
    with service(ARGS, upscalers=1, ingresses=2, import_path=IMPORT_PATH) as url:
        figures = asyncio.run(measure(url, args))
    if args.save:
        measurements.save("disconnects", figures)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
