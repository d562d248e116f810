"""The application with replicas that say what they are at, for tests of what clients leave behind.

Built as `deployments.app:build_app` builds it; the product itself has no such methods.
"""

import asyncio
import gc
import time
from contextlib import ExitStack
from dataclasses import dataclass
from unittest.mock import patch

from ray.serve import Application

import deployments.app
from deployments.app import AppArgs
from deployments.ingress import Ingress
from deployments.jobs import Jobs
from deployments.upscaler import Upscaler, UpscalerArgs
from nullscale.scheduling.work import Phase, TileTask
from sr_engine.events import Event


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of the engine: Unix times, and the ids of the requests in it."""

    begun_s: float
    ended_s: float
    phase: Phase
    request_ids: frozenset[str]


class Watched:
    """A replica that counts its coroutines."""

    async def tasks(self) -> int:
        """Collect garbage; return how many run on the event loop of this replica's code."""
        gc.collect()
        return len(asyncio.all_tasks())


class WatchedIngress(Watched, Ingress):
    """The HTTP side."""


class WatchedJobs(Watched, Jobs):
    """The owner of the jobs."""


class WatchedUpscaler(Watched, Upscaler):
    """A replica that keeps a list of its batches."""

    def __init__(self, args: UpscalerArgs) -> None:
        super().__init__(args)
        self._batches: list[Batch] = []
        engine = self._engine._engine
        step, next_batch = engine.step, engine._scheduler.next_batch
        formed: list[TileTask] = []

        def noted_batch() -> list[TileTask]:
            formed[:] = next_batch()
            return list(formed)

        def noted_step() -> list[Event]:
            begun_s = time.time()
            formed.clear()
            events = step()
            if formed:
                # Replicas add a suffix to the ids that clients chose.
                ids = frozenset(task.request_id.rpartition(".")[0] for task in formed)
                self._batches.append(Batch(begun_s, time.time(), formed[0].kind.phase, ids))
            return events

        engine._scheduler.next_batch, engine.step = noted_batch, noted_step

    async def busy(self) -> bool:
        """Say whether the engine has a request."""
        return self._engine._engine.has_work()

    async def batches(self) -> list[Batch]:
        """Return the batches since the last call."""
        batches, self._batches = self._batches, []
        return batches


def build_app(args: AppArgs) -> Application:
    """Build the application of the configuration files with such replicas."""
    with ExitStack() as stack:
        for watched in (WatchedIngress, WatchedJobs, WatchedUpscaler):
            name = watched.__name__.removeprefix("Watched")
            stack.enter_context(patch.object(deployments.app, name, watched))
        return deployments.app.build_app(args)
