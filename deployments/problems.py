"""Errors as `application/problem+json` (RFC 9457): the only place that knows their status codes."""

import http
import logging
import math
import uuid
from collections.abc import Sequence

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from deployments.kinds import KINDS, MEDIA_TYPE, REQUEST_ID, RETRY_AFTER_S, TYPE_PREFIX
from deployments.schemas import FieldError, ProblemDetails
from nullscale.errors import (
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

OUT_OF_MEMORY_RETRY_S = 30.0


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
            detail = "the request could not end in time"
            return Problem("deadline_exceeded", detail, retry_after_s=RETRY_AFTER_S)
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
    """The HTTP answer to ``problem``; its code stays with the request, for the access log."""
    request.state.problem_code = problem.code
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
    code = title.lower().replace(" ", "_")
    request.state.problem_code = code
    body = ProblemDetails(
        type=TYPE_PREFIX + code if code in KINDS else "about:blank",
        title=title,
        status=error.status_code,
        detail=f"{request.method} is not possible here",
        code=code,
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
