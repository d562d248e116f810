"""What each kind of the service's processes holds: threads, open files, memory of its own."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import psutil
from cluster import APP, CONTROLLER, INGRESS, UPSCALER, processes

KINDS = {
    "proxy": "ray::ProxyActor",
    "ingress": INGRESS,
    "jobs": f"ray::ServeReplica:{APP}:Jobs",
    "upscaler": UPSCALER,
    "controller": CONTROLLER,
}


@dataclass(frozen=True, slots=True)
class Sample:
    """What was held at a time, in seconds from the first sample."""

    at_s: float
    held: dict[str, dict[str, float]]


@asynccontextmanager
async def sampled(every_s: float) -> AsyncIterator[list[Sample]]:
    """Yield a list that gets a sample every so often, until the block ends."""
    samples: list[Sample] = []

    async def sample() -> None:
        start_s = time.perf_counter()
        while True:
            at_s = time.perf_counter() - start_s
            samples.append(Sample(at_s, await asyncio.to_thread(holdings)))
            await asyncio.sleep(every_s)

    sampling = asyncio.create_task(sample())
    try:
        yield samples
    finally:
        sampling.cancel()
        # Whatever went wrong there is raised here.
        with suppress(asyncio.CancelledError):
            await sampling


def holdings() -> dict[str, dict[str, float]]:
    """Return the sums over the processes of each kind of this process's cluster."""
    found = {kind: _held(processes(title)) for kind, title in KINDS.items()}
    children = psutil.Process().children(recursive=True)
    found["raylet"] = _held([process for process in children if process.name() == "raylet"])
    return found


def _held(found: list[psutil.Process]) -> dict[str, float]:
    return {
        "threads": sum(process.num_threads() for process in found),
        "files": sum(process.num_fds() for process in found),
        "memory_mb": round(sum(p.memory_full_info().uss for p in found) / 2**20, 1),
    }
