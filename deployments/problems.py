"""Errors as `application/problem+json` (RFC 9457): the only place that knows their status codes."""

import http
import logging
import math
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from deployments.schemas import FieldError, ProblemDetails
from sr_engine.errors import (
    DeadlineExceeded,
    EngineOverloaded,
    ImageTooLarge,
    InvalidImage,
    InvalidParameter,
    InvalidResult,
    NullscaleError,
    OutOfMemory,
    PromptUnsupported,
    UnsupportedImageType,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:nullscale:problem:"
OUT_OF_MEMORY_RETRY_S = 30.0
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of problem: its HTTP status, its title, and whether trying again may help."""

    status: int
    title: str
    retryable: bool = False


KINDS = {
    "malformed_multipart": Kind(400, "The body is no valid multipart form"),
    "unauthorized": Kind(401, "A valid API key is needed"),
    "job_not_found": Kind(404, "There is no such job"),
    "not_acceptable": Kind(406, "The answer cannot be made in an accepted media type"),
    "body_timeout": Kind(408, "The body took too long to arrive", retryable=True),
    "job_not_finished": Kind(409, "The job has not ended", retryable=True),
    "job_cancelled": Kind(409, "The job was cancelled"),
    "job_expired": Kind(410, "The job is no longer kept"),
    "body_too_large": Kind(413, "The body is too large"),
    "unsupported_media_type": Kind(415, "The media type is not supported"),
    "invalid_image": Kind(422, "The image cannot be used"),
    "image_too_many_pixels": Kind(422, "The image has too many pixels"),
    "invalid_parameter": Kind(422, "A form field is invalid"),
    "prompt_unsupported": Kind(422, "The model takes no prompts"),
    "idempotency_key_reused": Kind(422, "The idempotency key was used for another request"),
    "invalid_header": Kind(422, "A header is invalid"),
    "too_many_requests": Kind(429, "Too many requests came with this key", retryable=True),
    "too_many_jobs": Kind(429, "This key has too many unfinished jobs", retryable=True),
    "inference_failed": Kind(500, "The model failed on this request"),
    "inference_invalid": Kind(500, "The model produced no valid picture"),
    "internal_error": Kind(500, "Internal error"),
    "overloaded": Kind(503, "The server has too much to do", retryable=True),
    "out_of_memory": Kind(503, "The device has no room for this picture", retryable=True),
    "replica_lost": Kind(503, "The worker on this request was lost", retryable=True),
    "not_ready": Kind(503, "No worker is ready", retryable=True),
    "deadline_exceeded": Kind(504, "The request took too long", retryable=True),
}


class Problem(Exception):
    """A request that is refused or has failed; ``code`` is a key of `KINDS`.

    Attributes:
        errors: the form fields at fault.
        retry_after_s: when to come again.
        close: the connection cannot be used further, since the body was not read.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after_s: float | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.retry_after_s = retry_after_s
        self.close = close

    @property
    def retryable(self) -> bool:
        """The same request may succeed later."""
        return KINDS[self.code].retryable

    def __reduce__(self) -> tuple[object, ...]:
        # Unpickling would call the constructor with the text alone.
        return _problem, (self.code, self.detail, self.errors, self.retry_after_s, self.close)


def _problem(
    code: str, detail: str, errors: list[FieldError], retry_after_s: float | None, close: bool
) -> Problem:
    return Problem(code, detail, errors=errors, retry_after_s=retry_after_s, close=close)


def invalid_fields(errors: Sequence[InvalidParameter]) -> Problem:
    """The problem of one or more form fields."""
    code = "invalid_parameter"
    if errors and all(isinstance(error, PromptUnsupported) for error in errors):
        code = "prompt_unsupported"
    listed = [FieldError(pointer=f"#/{_escape(e.field)}", detail=e.message) for e in errors]
    return Problem(code, "; ".join(f"{e.field}: {e.message}" for e in errors), errors=listed)


def problem_of(error: NullscaleError) -> Problem:
    """The problem that an engine's error is to a client."""
    match error:
        case InvalidParameter():
            return invalid_fields([error])
        case UnsupportedImageType():
            return _image_problem("unsupported_media_type", error)
        case ImageTooLarge():
            return _image_problem("image_too_many_pixels", error)
        case InvalidImage():
            return _image_problem("invalid_image", error)
        case EngineOverloaded():
            detail = "too many requests wait already"
            return Problem("overloaded", detail, retry_after_s=error.retry_after_s)
        case DeadlineExceeded():
            return Problem("deadline_exceeded", "the request did not end in time")
        case OutOfMemory():
            detail = "the device has no room for this picture at present"
            return Problem("out_of_memory", detail, retry_after_s=OUT_OF_MEMORY_RETRY_S)
        case InvalidResult():
            return Problem("inference_invalid", "the model produced no valid picture")
        case _:
            return Problem("inference_failed", "the model failed on this request")


def request_id(request: Request) -> str:
    """The id that Serve's proxy or the client gave the request; a new one where it is no good."""
    given = request.headers.get("x-request-id", "")
    if not hasattr(request.state, "request_id"):
        request.state.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    result: str = request.state.request_id
    return result


def install(app: FastAPI) -> None:
    """Make every error of ``app`` a problem."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_unexpected)


def details_of(problem: Problem, request_id: str) -> ProblemDetails:
    """The body that ``problem`` has in an answer."""
    kind = KINDS[problem.code]
    return ProblemDetails(
        type=TYPE_PREFIX + problem.code,
        title=kind.title,
        status=kind.status,
        detail=problem.detail,
        code=problem.code,
        errors=problem.errors,
        retryable=kind.retryable,
        request_id=request_id,
    )


def render(problem: Problem, request: Request) -> Response:
    """The HTTP answer to ``problem``."""
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(problem.retry_after_s))
    if problem.close:
        headers["Connection"] = "close"
    if problem.code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    return _answer(details_of(problem, request_id(request)), headers)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return render(error, request)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    title = http.HTTPStatus(error.status_code).phrase
    body = ProblemDetails(
        type="about:blank",
        title=title,
        status=error.status_code,
        detail=f"{request.method} is not possible here",
        code=title.lower().replace(" ", "_"),
        errors=[],
        retryable=False,
        request_id=request_id(request),
    )
    headers = dict(error.headers or {})
    if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return _answer(body, headers)


def _methods(request: Request) -> set[str]:
    """The methods of a path; Starlette's own answer has those of its first route alone."""
    return {
        method
        for route in request.app.routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }


async def _on_unexpected(request: Request, error: Exception) -> Response:
    logger.error("request %s failed", request_id(request), exc_info=error)
    return render(Problem("internal_error", "the request could not be carried out"), request)


def _image_problem(code: str, error: InvalidImage) -> Problem:
    return Problem(code, str(error), errors=[FieldError(pointer="#/image", detail=str(error))])


def _answer(body: ProblemDetails, headers: dict[str, str]) -> Response:
    return Response(body.model_dump_json(), body.status, headers, MEDIA_TYPE)


def _escape(name: str) -> str:
    """A field's name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
