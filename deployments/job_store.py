"""The jobs that are kept, bounded in number, bytes and time."""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from deployments.kinds import RETRY_AFTER_S
from deployments.limits import JobSettings
from deployments.messages import Order
from deployments.pictures import Picture
from deployments.problems import Problem
from deployments.schemas import JobState
from nullscale.maths.params import MAX_STEPS

# As many as a job may have steps, and some.
MAX_EVENTS = MAX_STEPS + 24
# Of these only the newest is worth keeping.
REPLACED = ("queued", "preview")
MAX_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event of a job's stream: its number, from 1 up, its name and its JSON data."""

    number: int
    name: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's key for a request, and a digest of all that was sent under it."""

    key: str
    digest: str


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """One job, from its arrival until it expires.

    Attributes:
        owner: the name of the API key that it came under.
        order: what is to be done; dropped when it has ended, as is its task.
        outcome: the picture, or what went wrong.
        changed: set, and replaced, at each change.
    """

    job_id: str
    owner: str
    request_id: str
    created_s: float
    seed: int
    order: Order | None
    idempotency: Idempotency | None
    state: JobState = JobState.QUEUED
    started_s: float | None = None
    ended_s: float | None = None
    outcome: Picture | Problem | None = None
    task: "asyncio.Task[None] | None" = None
    timer: asyncio.TimerHandle | None = None
    events: deque[JobEvent] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))
    numbered: int = 0
    preview_bytes: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ended(self) -> bool:
        """It has an outcome."""
        return self.outcome is not None

    @property
    def held_bytes(self) -> int:
        """Bytes of pictures that it keeps in memory."""
        held = self.preview_bytes
        if self.order is not None:
            source = self.order.source
            held += source.samples.nbytes + len(source.exif or b"") + len(source.xmp or b"")
            held += 0 if source.alpha is None else source.alpha.nbytes
        if isinstance(self.outcome, Picture):
            held += len(self.outcome.encoded)
        return held

    def tell(self, name: str, data: dict[str, Any]) -> None:
        """Add an event."""
        if name == "preview":
            self.preview_bytes = len(data["image"])
        if name in REPLACED:
            for old in [event for event in self.events if event.name == name]:
                self.events.remove(old)
        self.numbered += 1
        self.events.append(JobEvent(self.numbered, name, data))
        self.changed.set()
        self.changed = asyncio.Event()


class JobStore:
    """Owns the jobs of one process; ``clock`` is Unix time."""

    def __init__(self, settings: JobSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._unfinished: dict[str, Job] = {}
        self._ended: dict[str, Job] = {}  # in the order of their ends
        self._gone: dict[str, tuple[str, float]] = {}
        self._by_key: dict[tuple[str, str], Job] = {}

    def add(
        self, order: Order, owner: str, request_id: str, idempotency: Idempotency | None
    ) -> tuple[Job, bool]:
        """Keep a new job, or find the one that came under the same idempotency key.

        Returns:
            The job, and whether it is new.

        Raises:
            Problem: the key came with another request, or there are too many jobs.
        """
        self._expire()
        if idempotency is not None:
            earlier = self._by_key.get((owner, idempotency.key))
            if earlier is not None:
                assert earlier.idempotency is not None
                if earlier.idempotency.digest != idempotency.digest:
                    raise Problem(
                        "idempotency_key_reused", "the key came with another request before"
                    )
                return earlier, False
        assert order.params.seed is not None
        job = Job(
            job_id=secrets.token_urlsafe(16),
            owner=owner,
            request_id=request_id,
            created_s=self._clock(),
            seed=order.params.seed,
            order=order,
            idempotency=idempotency,
        )
        self._make_room(job)
        self._unfinished[job.job_id] = job
        if idempotency is not None:
            self._by_key[owner, idempotency.key] = job
        return job, True

    def find(self, job_id: str, owner: str) -> Job:
        """Return a job of ``owner``'s.

        Raises:
            Problem: there is none, or no longer.
        """
        self._expire()
        job = self._unfinished.get(job_id) or self._ended.get(job_id)
        if job is not None and job.owner == owner:
            return job
        if self._gone.get(job_id, ("", 0.0))[0] == owner:
            raise Problem("job_expired", "the job and its result are no longer kept")
        raise Problem("job_not_found", "there is no such job")

    def waiting(self) -> list[Job]:
        """Return the jobs that have not been started, in the order in which they should be.

        Turns are taken by key: whoever has the fewest under way comes first.
        """
        running: dict[str, int] = {}
        for job in self._unfinished.values():
            if job.state is JobState.RUNNING:
                running[job.owner] = running.get(job.owner, 0) + 1
        turns: dict[str, int] = {}
        order: list[tuple[int, float, Job]] = []
        for job in self._unfinished.values():
            if job.state is JobState.QUEUED:
                turn = turns.get(job.owner, running.get(job.owner, 0))
                turns[job.owner] = turn + 1
                order.append((turn, job.created_s, job))
        return [job for _, _, job in sorted(order, key=lambda entry: entry[:2])]

    def orders(self) -> list[Order]:
        """Return what is to be done still, be it under way or not."""
        return [job.order for job in self._unfinished.values() if job.order is not None]

    def running(self) -> int:
        """Return how many jobs are with the workers."""
        return sum(job.state is JobState.RUNNING for job in self._unfinished.values())

    def start(self, job: Job) -> None:
        """Mark a job as handed to the workers."""
        job.state, job.started_s = JobState.RUNNING, self._clock()

    def end(self, job: Job, outcome: Picture | Problem) -> None:
        """Give a job its outcome; its input is dropped."""
        # The frames of a traceback hold the input and a worker's answers. A copy has none; a task
        # that was cancelled has one.
        job.outcome = copy(outcome) if isinstance(outcome, Problem) else outcome
        job.ended_s, job.order, job.task = self._clock(), None, None
        self._ended[job.job_id] = self._unfinished.pop(job.job_id)
        if isinstance(outcome, Picture):
            job.state = JobState.SUCCEEDED
        else:
            job.state = JobState.CANCELLED if outcome.code == "job_cancelled" else JobState.FAILED
        self._shrink()

    def drop(self, job: Job) -> None:
        """Forget a job that has ended; for a while it is known to have been here."""
        del self._ended[job.job_id]
        if job.idempotency is not None:
            self._by_key.pop((job.owner, job.idempotency.key), None)
        self._gone[job.job_id] = job.owner, self._clock() + self._settings.forget_s
        if len(self._gone) > MAX_REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def expires_s(self, job: Job) -> float | None:
        """Return the Unix time at which a job that has ended is dropped, at the latest."""
        return None if job.ended_s is None else job.ended_s + self._settings.keep_s

    def _make_room(self, job: Job) -> None:
        unfinished = self._unfinished.values()
        own = sum(other.owner == job.owner for other in unfinished)
        if own >= self._settings.max_unfinished_a_key:
            raise Problem(
                "too_many_jobs",
                f"a key may have {self._settings.max_unfinished_a_key} unfinished jobs",
                retry_after_s=RETRY_AFTER_S,
            )
        held = sum(other.held_bytes for other in unfinished) + job.held_bytes
        if len(unfinished) >= self._settings.max_unfinished or held > self._settings.max_bytes:
            raise Problem("overloaded", "too many jobs wait already", retry_after_s=RETRY_AFTER_S)

    def _shrink(self) -> None:
        """Drop the oldest results while there are too many of them, or too many bytes.

        The newest stays, whatever its size: its owner has just been told of it.
        """
        excess = sum(job.held_bytes for job in self._ended.values()) - self._settings.max_bytes
        for job in list(self._ended.values())[:-1]:
            if excess <= 0 and len(self._ended) <= self._settings.max_kept:
                return
            excess -= job.held_bytes
            self.drop(job)

    def _expire(self) -> None:
        now_s = self._clock()
        for job in list(self._ended.values()):
            if (self.expires_s(job) or 0.0) > now_s:
                break
            self.drop(job)
        for job_id, (_, until_s) in list(self._gone.items()):
            if until_s > now_s:
                break
            del self._gone[job_id]
