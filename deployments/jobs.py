"""Asynchronous jobs: one deployment that owns them, their events and their results.

What it holds is in its memory alone. When its node dies, or an upgrade replaces it, its jobs and
results are lost: a client sees a 404 and sends the picture again. An ingress replica may come and
go.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from copy import copy

from deployments import logs
from deployments.dispatch import Dispatcher
from deployments.handles import UpscalerHandle
from deployments.job_reports import status_of, tell
from deployments.job_store import Idempotency, Job, JobEvent, JobStore
from deployments.kinds import RETRY_AFTER_S
from deployments.limits import JobSettings
from deployments.messages import Order
from deployments.metrics import JobMetrics, RayRecorder
from deployments.pictures import Picture, make_picture, work_of
from deployments.problems import Problem, details_of
from deployments.repeating import repeat
from deployments.running import running_upscalers
from deployments.schemas import JobState, JobStatus
from deployments.workload import Workload
from sr_engine.events import QueuedEvent

logger = logging.getLogger(__name__)

NOT_NOW = frozenset({"overloaded", "not_ready"})


class Jobs:
    """The owner of all jobs. Ingress replicas submit them, ask for them and stream their events.

    Args:
        upscalers: asks how many replicas of the upscaler run.
        again_s: pause before a job that no worker could take comes again.
        cold_start_s: how long a replica takes to start, where it may be that none runs.
    """

    def __init__(
        self,
        upscaler: UpscalerHandle,
        settings: JobSettings,
        upscalers: Callable[[], int] = running_upscalers,
        again_s: float = RETRY_AFTER_S,
        cold_start_s: float | None = None,
    ) -> None:
        logs.join_serve()
        self._metrics = JobMetrics(RayRecorder())
        self._load = Workload(on_arrival=self._metrics.work.arrived)
        self._dispatcher = Dispatcher(
            upscaler,
            settings.timeout_s,
            running=upscalers,
            retry_after_s=lambda: again_s,
            on_retry=self._metrics.retried,
            cold_start_s=cold_start_s,
        )
        self._max_running = settings.max_running
        self._store = JobStore(settings)
        repeat(self._metrics.refresh)

    async def submit(
        self, order: Order, owner: str, request_id: str, idempotency: Idempotency | None
    ) -> tuple[JobStatus, bool]:
        """Take a job, or find the one that came under the same idempotency key.

        Returns:
            Its status, and whether it is new.

        Raises:
            Problem: the key came with another request, or there are too many jobs.
        """
        job, new = self._store.add(order, owner, request_id, idempotency)
        if new:
            work = work_of(order)
            self._load.guess(order.expected_s / work)
            self._load.arrive(work)
            self._start_next()
            if job.state is JobState.QUEUED:
                left_s = order.until_s - time.time()
                job.timer = asyncio.get_running_loop().call_later(left_s, self._overdue, job)
                job.tell("queued", {"position": self._store.waiting().index(job)})
        return status_of(job, self._store), new

    async def status(self, job_id: str, owner: str) -> JobStatus:
        """Say how a job stands.

        Raises:
            Problem: there is none, or no longer.
        """
        return status_of(self._store.find(job_id, owner), self._store)

    async def cancel(self, job_id: str, owner: str) -> JobStatus:
        """End a job; one that has ended is forgotten with its result.

        Raises:
            Problem: there is none, or no longer.
        """
        job = self._store.find(job_id, owner)
        if job.ended:
            self._store.drop(job)
        else:
            if job.task is not None:
                job.task.cancel()
            self._end(job, Problem("job_cancelled", "the job was cancelled"))
        return status_of(job, self._store)

    async def result(self, job_id: str, owner: str) -> Picture:
        """Return a job's picture.

        Raises:
            Problem: there is none, no longer, or not yet; or what the job ran into.
        """
        outcome = self._store.find(job_id, owner).outcome
        if isinstance(outcome, Picture):
            return outcome
        if outcome is None:
            raise Problem("job_not_finished", "the job is still under way", retry_after_s=1)
        # Each raise adds its frames to the traceback of what is raised.
        raise copy(outcome)

    async def events(self, job_id: str, owner: str, after: int) -> AsyncIterator[JobEvent]:
        """Yield a job's events with numbers above ``after``, those to come included.

        Raises:
            Problem: there is no such job, or no longer.
        """
        job = self._store.find(job_id, owner)
        while True:
            changed, ended = job.changed, job.ended
            for event in [event for event in job.events if event.number > after]:
                after = event.number
                yield event
            if ended:
                return
            await changed.wait()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell the autoscaling policy of all unfinished jobs, whether they wait here or not.

        No ingress counts any of it: to them a job is done when it has been submitted.
        """
        return {
            "outstanding_work_s": self._outstanding_s(),
            "unit_s": self._load.unit_s,
            **self._load.arrived(),
        }

    def _start_next(self) -> None:
        """Hand jobs to the workers while there is room; the rest wait here, where turns count."""
        room = max(0, self._max_running - self._store.running())
        waiting = self._store.waiting()
        for job in waiting[:room]:
            self._store.start(job)
            job.task = asyncio.create_task(self._carry_out(job))
        for position, job in enumerate(waiting[room:]):
            if job.events and job.events[-1].data != {"position": position}:
                job.tell("queued", {"position": position})
        self._metrics.unfinished(queued=len(waiting[room:]), running=self._store.running())
        self._metrics.work.stands(self._outstanding_s())

    def _outstanding_s(self) -> float:
        return sum(map(work_of, self._store.orders())) * self._load.unit_s

    async def _carry_out(self, job: Job) -> None:
        assert job.order is not None
        outcome: Picture | Problem
        try:
            outcome = await self._patiently(job, job.order)
        except Problem as err:
            outcome = err
        except Exception:
            extra = {"request_id": job.request_id}
            logger.exception("request %s failed", job.request_id, extra=extra)
            outcome = Problem("internal_error", "the request could not be carried out")
        self._end(job, outcome)

    async def _patiently(self, job: Job, order: Order) -> Picture:
        """Carry out a job; where no worker can take it, it comes again until its time is up.

        Nobody waits at the other end of a connection, so a refusal now is no answer. A picture on
        which workers were lost does not come again: it may be the cause.
        """
        if await self._dispatcher.cold.asleep():
            eta_s = self._dispatcher.cold.wait_s + order.expected_s
            tell(job, QueuedEvent(job.request_id, 0, eta_s))
        while True:
            try:
                picture = await make_picture(
                    order, self._dispatcher, job.request_id, lambda event: tell(job, event)
                )
                self._load.learn(work_of(order), picture.work_s)
                self._metrics.pictures.made(order, picture)
                return picture
            except Problem as err:
                wait_s = err.retry_after_s or RETRY_AFTER_S
                if err.code not in NOT_NOW or time.time() + wait_s > order.until_s:
                    raise
                await asyncio.sleep(wait_s)

    def _overdue(self, job: Job) -> None:
        """End a job that nobody has taken up in its time; the dispatcher ends the others."""
        if job.state is JobState.QUEUED:
            self._end(job, Problem("deadline_exceeded", "no worker was free in its time"))

    def _end(self, job: Job, outcome: Picture | Problem) -> None:
        if job.ended:
            return
        if job.timer is not None:
            job.timer.cancel()
        self._store.end(job, outcome)
        extra = {"request_id": job.request_id, "job_id": job.job_id}
        logger.info("request %s: its job has %s", job.request_id, job.state, extra=extra)
        self._metrics.ended(job.state, outcome.code if isinstance(outcome, Problem) else "ok")
        if isinstance(outcome, Picture):
            job.tell("done", {"result": f"/v1/jobs/{job.job_id}/result"})
        else:
            problem = details_of(outcome, job.request_id).model_dump(mode="json")
            job.tell("failed", problem)
        self._start_next()
