"""The routes of asynchronous jobs."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Protocol

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments import replies
from deployments.access import Gate
from deployments.dispatch import settled
from deployments.handles import Response as Reply
from deployments.handles import Stream
from deployments.job_store import Idempotency, JobEvent
from deployments.kinds import RETRY_AFTER_S
from deployments.messages import Order
from deployments.openapi import EVENTS, JOB, RESULT
from deployments.pictures import Picture
from deployments.problems import Problem, request_id
from deployments.schemas import JobStatus

PREFIX = "/v1/jobs/"
KEY = re.compile(r"[\x21-\x7e]{1,255}")
ANSWER_TIMEOUT_S = 15.0


class JobsMethod(Protocol):
    """A method of `Jobs` through a handle."""

    def remote(self, *args: object) -> Reply[Any]:
        """Call it."""


class JobsStream(Protocol):
    """A generator of `Jobs` through a streaming handle."""

    def remote(self, *args: object) -> Stream[JobEvent]:
        """Call it."""


class JobsHandle(Protocol):
    """The part of Serve's `DeploymentHandle` to `Jobs` that is used here."""

    @property
    def submit(self) -> JobsMethod:
        """`Jobs.submit`."""

    @property
    def status(self) -> JobsMethod:
        """`Jobs.status`."""

    @property
    def cancel(self) -> JobsMethod:
        """`Jobs.cancel`."""

    @property
    def result(self) -> JobsMethod:
        """`Jobs.result`."""

    @property
    def events(self) -> JobsStream:
        """`Jobs.events`, of a streaming handle."""

    def options(self, *, stream: bool) -> "JobsHandle":
        """A handle whose methods stream."""


class JobRoutes:
    """Makes jobs, and answers for them; ``gate`` says whose they are."""

    def __init__(self, jobs: JobsHandle, gate: Gate) -> None:
        self._jobs = jobs
        self._streaming = jobs.options(stream=True)
        self._gate = gate

    def install(self, app: FastAPI) -> None:
        """Add the routes to ``app``."""

        def add(path: str, endpoint: Callable[..., Any], method: str, **more: Any) -> None:
            app.add_api_route(PREFIX + path, endpoint, methods=[method], tags=["jobs"], **more)

        add("{job_id}", self.status, "GET", responses=JOB, response_model_exclude_none=True)
        add("{job_id}", self.cancel, "DELETE", responses=JOB, response_model_exclude_none=True)
        add("{job_id}/result", self.result, "GET", response_class=Response, responses=RESULT)
        add(
            "{job_id}/events",
            self.events,
            "GET",
            response_class=EventSourceResponse,
            responses=EVENTS,
            # Once the stream has begun there is no status left to say so with.
            dependencies=[Depends(self.status)],
        )

    async def submit(
        self, order: Order, owner: str, request: Request, digest: Callable[[], str]
    ) -> Response:
        """Make a job of an order; ``digest`` is asked for where the client sent a key.

        Raises:
            Problem: the idempotency key is no good, or there are too many jobs.
        """
        key = request.headers.get("idempotency-key")
        idempotency = None
        if key is not None:
            check_key(key)
            idempotency = Idempotency(key, await asyncio.to_thread(digest))
        status, new = await _answer(
            self._jobs.submit.remote(order, owner, request_id(request), idempotency)
        )
        headers = {
            "Location": PREFIX + status.id,
            "X-Seed": str(status.seed),
            "Vary": "Accept, Prefer",
            "Cache-Control": "no-store",
        }
        if prefers_async(request):
            headers["Preference-Applied"] = "respond-async"
        if not new:
            headers["Idempotent-Replayed"] = "true"
        return Response(status.model_dump_json(exclude_none=True), 202, headers, replies.JSON)

    async def status(self, job_id: str, request: Request) -> JobStatus:
        """How a job stands."""
        status: JobStatus = await _answer(
            self._jobs.status.remote(job_id, self._gate.identify(request))
        )
        return status

    async def cancel(self, job_id: str, request: Request) -> JobStatus:
        """End a job; the GPU is free within one step. One that has ended is forgotten."""
        status: JobStatus = await _answer(
            self._jobs.cancel.remote(job_id, self._gate.identify(request))
        )
        return status

    async def result(self, job_id: str, request: Request) -> Response:
        """The upscaled picture; 409 before the job has ended."""
        picture: Picture = await _answer(
            self._jobs.result.remote(job_id, self._gate.identify(request))
        )
        return await replies.reply(picture, request)

    async def events(
        self, job_id: str, request: Request, last_event_id: Annotated[str, Header()] = "0"
    ) -> AsyncIterator[ServerSentEvent]:
        """Server-sent events: `queued`, `step`, `preview`, and `done` or `failed` at the end."""
        after = int(last_event_id) if re.fullmatch(r"[0-9]{1,9}", last_event_id) else 0
        stream = self._streaming.events.remote(job_id, self._gate.identify(request), after)
        try:
            async for event in stream:
                yield ServerSentEvent(data=event.data, event=event.name, id=str(event.number))
        finally:
            stream.cancel()


def prefers_async(request: Request) -> bool:
    """Say whether a request has ``respond-async`` among its preferences (RFC 7240)."""
    given = ",".join(request.headers.getlist("prefer")).lower().split(",")
    return "respond-async" in (preference.partition(";")[0].strip() for preference in given)


def check_key(key: str) -> None:
    """Do nothing where a client's idempotency key can be one.

    Raises:
        Problem: it is empty, too long, or not plain text.
    """
    if not KEY.fullmatch(key):
        raise Problem("invalid_header", "Idempotency-Key: 1 to 255 visible ASCII characters")


async def _answer(response: Reply[Any]) -> Any:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await settled(response)
    except Problem as err:
        # Ray's copy of what was raised there has a stack trace for a text.
        raise (err.cause if isinstance(err, RayTaskError) else err) from None
    except (TimeoutError, RayError, DeploymentUnavailableError, BackPressureError) as err:
        detail = "the jobs are out of reach"
        raise Problem("not_ready", detail, retry_after_s=RETRY_AFTER_S) from err
