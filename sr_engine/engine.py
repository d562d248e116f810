"""The engine: requests in, one batch of tiles a step, results out."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from nullscale.errors import DeadlineExceeded, EngineError, InvalidParameter, RequestAborted
from nullscale.scheduling.costs import ROW_LIMITS, Costs
from nullscale.scheduling.estimates import check_deadline
from nullscale.scheduling.scheduler import Scheduler
from nullscale.scheduling.work import Caps, Kind, Phase, TileTask, Variant
from sr_engine.active import ActiveRequest
from sr_engine.blocking import BlockingCalls
from sr_engine.events import Event, QueuedEvent, RequestFailure, UpscaleResult
from sr_engine.failures import REQUEST_ERRORS, failure_of
from sr_engine.jobs import Active, Begin, Job
from sr_engine.metrics import Metrics, PrometheusRecorder
from sr_engine.model import Model
from sr_engine.plan import canvas_of, plan_stages
from sr_engine.request import UpscaleRequest
from sr_engine.runner import Runner

logger = logging.getLogger(__name__)


class SREngine(BlockingCalls):
    """Batches the network calls of many requests, one batch a `step`. Not thread-safe.

    Args:
        max_active: requests that may hold latents and pixels at once; the rest wait.
        max_active_pixels: of output that those may have in all, `sr_engine.plan.BYTES_A_PIXEL`
            bytes each; a larger picture runs alone.
        clock: what deadlines are read on.
        limits: rows that no batch of a phase may exceed; below, they follow the measured costs.
        begin: what makes a request active; a simulated model brings its own.
        metrics: where to count; by default nobody reads it.
    """

    def __init__(
        self,
        model: Model,
        *,
        max_active: int = 8,
        max_active_pixels: int = 2**26,
        limits: Mapping[Phase, int] = ROW_LIMITS,
        clock: Callable[[], float] = time.monotonic,
        begin: Begin = ActiveRequest,
        metrics: Metrics | None = None,
    ) -> None:
        self._clock = clock
        self._begin = begin
        self._costs = costs = Costs(limits)
        self.metrics = metrics or Metrics(PrometheusRecorder())
        self.runner = Runner(model, costs, self.metrics)
        self._scheduler = Scheduler(max_active, costs, max_active_pixels=max_active_pixels)
        self._jobs: dict[str, Job] = {}
        self._spent_s: dict[str, float] = {}

    @property
    def model(self) -> Model:
        """The model that every request shares."""
        return self.runner.model

    def add_request(self, request: UpscaleRequest) -> None:
        """Queue a request; `step` reports on it under its ``request_id``.

        Raises:
            EngineError: a request of that id is here already.
            InvalidParameter: it asks for a draft where the model has none.
            DeadlineExceeded: it could not be done in time even alone.
            EngineOverloaded: it could not be done in time under the present load.
        """
        request_id, now_s = request.request_id, self._clock()
        if request_id in self._jobs:
            raise EngineError(f"request {request_id} is here already")
        info = self.model.info
        if request.params.draft and not info.draft:
            raise InvalidParameter("draft", "this model has no draft autoencoder")
        plan = plan_stages(request, info)
        needs_s = self._scheduler.completion_s(plan, priority=request.priority)
        if request.deadline_s is not None and self._scheduler.measured(plan):
            left_s, alone_s = request.deadline_s - now_s, self._scheduler.service_s(plan)
            try:
                check_deadline(left_s, needs_s, alone_s)
            except EngineError as err:
                self.metrics.failed(err)
                raise
        self._spent_s[request_id] = 0.0
        self._queue(Job(request, plan, time.monotonic(), needs_s))

    def limit(self, caps: Caps) -> None:
        """Work by other caps from the next batch on; what is under way stays."""
        self._scheduler.limit(caps.max_active, caps.max_active_pixels)
        self._costs.limit(caps.max_batch_rows)

    def queue(self) -> list[QueuedEvent]:
        """Return where each waiting request stands, in the order in which they will be taken up."""
        waiting = self._scheduler.queue()
        self.metrics.queue(len(waiting), self._scheduler.work_s())
        return [QueuedEvent(name, number, eta_s) for number, (name, eta_s) in enumerate(waiting)]

    def abort(self, request_id: str) -> list[Event]:
        """Take a request out, wherever it stands; return its last event, none if it was gone."""
        if request_id not in self._jobs:
            return []
        self._forget(request_id)
        error = RequestAborted(f"request {request_id} was aborted")
        return [self._settled(RequestFailure(request_id, error))]

    def has_work(self) -> bool:
        """Say whether another `step` would do anything."""
        return self._scheduler.has_work()

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Run one batch and return what became of the requests in it."""
        started = time.perf_counter()
        events = [*self._drop_overdue(), *self._admit()]
        batch = self._scheduler.next_batch()
        for task, outcome in self._run(batch):
            # An earlier tile of the same request may have failed it within this very loop.
            if self._active(task.request_id) is None:
                continue
            if isinstance(outcome, Exception):
                self._fail(task.request_id, outcome, events, task.kind)
                continue
            with self._blame(task.request_id, events):
                self._complete(task, outcome, events)
        busy_s = time.perf_counter() - started
        self.metrics.busy(busy_s)
        # Without a batch there were only those that ended before they needed one.
        who = [task.request_id for task in batch] or [event.request_id for event in events]
        self._charge(who, busy_s)
        return [self._settled(event) for event in events]

    def _queue(self, job: Job) -> None:
        request = job.request
        self._jobs[request.request_id] = job
        self._scheduler.add(
            request.request_id,
            job.plan,
            priority=request.priority,
            deadline_s=request.deadline_s,
            pixels=math.prod(canvas_of(request, self.model.info).image_size),
        )

    def _drop_overdue(self) -> list[Event]:
        late = self._scheduler.overdue(self._clock())
        for request_id in late:
            self._forget(request_id)
        return [
            RequestFailure(i, DeadlineExceeded(f"request {i} missed its deadline")) for i in late
        ]

    def _admit(self) -> list[Event]:
        events: list[Event] = []
        for request_id in self._scheduler.admit():
            with self._blame(request_id, events):
                job = self._jobs[request_id]
                job.active = self._begin(job.request, self.model)
                self._end_if_done(job, events)
        return events

    def _run(self, batch: list[TileTask]) -> list[tuple[TileTask, Tensor | Exception]]:
        found = [(task, self._active(task.request_id)) for task in batch]
        rows = [(task, active.row(task.row)) for task, active in found if active is not None]
        if not rows:
            return []
        outcomes = self.runner.outcomes(batch[0].kind, [row for _, row in rows])
        return [(task, outcome) for (task, _), outcome in zip(rows, outcomes, strict=True)]

    @contextmanager
    def _blame(self, request_id: str, events: list[Event]) -> Iterator[None]:
        """Make what goes wrong inside the failure of one request, unless the device is lost."""
        try:
            yield
        except torch.AcceleratorError:
            # The context is gone for every request to come: only a new process helps.
            raise
        except REQUEST_ERRORS as err:
            self._fail(request_id, err, events)

    def _fail(
        self, request_id: str, err: Exception, events: list[Event], kind: Kind | None = None
    ) -> None:
        """End a request, or begin it anew; ``kind`` is that of the row that failed, if one did."""
        again = self._jobs[request_id].after(err, kind, self.model.info)
        self._forget(request_id)
        if again is None:
            events.append(failure_of(request_id, err))
            return
        extra = {"request_id": request_id}
        logger.warning("request %s: %s; once more, another way", request_id, err, extra=extra)
        self._queue(again)

    def _complete(self, task: TileTask, output: Tensor, events: list[Event]) -> None:
        """Hand a row its result; report where that ends a step or the request."""
        job = self._jobs[task.request_id]
        assert job.active is not None
        done = job.active.steps_done
        job.active.complete(task.row, output)
        if not self._scheduler.complete(task):
            return
        if job.active.steps_done > done:
            events.append(job.step_event())
        self._end_if_done(job, events)

    def _end_if_done(self, job: Job, events: list[Event]) -> None:
        if job.active is not None and job.active.picture is not None:
            result = job.active.result(job.arrived_s)
            self._forget(job.request.request_id)
            events.append(result)
            self.metrics.finished(result, job.request.params.denoising_steps, job.estimated_s)

    def _charge(self, request_ids: list[str], seconds: float) -> None:
        """Divide a step's time evenly among its rows: together, they pay for all busy time."""
        for request_id in request_ids:
            if request_id in self._spent_s:
                self._spent_s[request_id] += seconds / len(request_ids)

    def _settled(self, event: Event) -> Event:
        """Close the account of a request that has ended, and tell what was in it."""
        if isinstance(event, RequestFailure):
            self.metrics.failed(event.error)
            self._spent_s.pop(event.request_id)
        elif isinstance(event, UpscaleResult):
            return replace(event, work_s=self._spent_s.pop(event.request_id))
        return event

    def _active(self, request_id: str) -> Active | None:
        job = self._jobs.get(request_id)
        return job.active if job else None

    def _forget(self, request_id: str) -> None:
        """Take a request out, and drop every tensor that was there for it alone."""
        self._scheduler.remove(request_id)
        job = self._jobs.pop(request_id)
        if job.active is not None:
            job.active.close()
        exact = Variant.FLOAT32
        if job.variant is exact and all(j.variant is not exact for j in self._jobs.values()):
            self.model.release_float32()
