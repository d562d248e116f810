"""The answers as the OpenAPI document shows them."""

from typing import Any, get_args

from fastapi import FastAPI
from pydantic import BaseModel

from deployments.kinds import KINDS, MEDIA_TYPE
from deployments.schemas import JobStatus, ProblemDetails, UpscaleAnswer
from nullscale.imaging.image_io import OutputFormat

EVENTS_EXAMPLE = """id: 1
event: queued
data: {"position": 0}

id: 2
event: step
data: {"step": 1, "of": 4, "eta_s": 2.1}

id: 3
event: done
data: {"result": "/v1/jobs/Vn1cbYxRzZqk3p0H8x2q7w/result"}
"""


def _header(kind: str, description: str) -> dict[str, Any]:
    return {"schema": {"type": kind}, "description": description}


_PICTURE_HEADERS = {
    "X-Request-Id": _header("string", "the request's own, or a new one"),
    "X-Seed": _header("integer", "send it again to get the same picture"),
    "X-Model": _header("string", "the model's name"),
    "X-Bit-Depth": _header("integer", "bits a sample of the answer, whatever the file had"),
    "X-Consistency-Exact": _header("string", "?1 where the input comes back bit for bit"),
    "X-Consistency-PSNR": _header("number", "dB; left out when exact"),
    "Server-Timing": _header("string", "milliseconds of decode, queue, upscale, encode"),
}
EXPOSED_HEADERS = (
    *_PICTURE_HEADERS,
    "Idempotent-Replayed",
    "Location",
    "Preference-Applied",
    "Retry-After",
)


def _inlined(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema without references: FastAPI registers only what it answers itself."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})
    for field in schema["properties"].values():
        if "items" in field and "$ref" in field["items"]:
            field["items"] = parts[field["items"]["$ref"].rpartition("/")[2]]
    return schema


_PROBLEM_CONTENT = {MEDIA_TYPE: {"schema": _inlined(ProblemDetails)}}

# What Serve's proxy and Serve itself may say in the place of any route.
_ANYWHERE = (
    *("not_found", "request_timeout", "body_too_large", "headers_too_large"),
    *("internal_error", "replica_lost", "not_ready"),
)
# What a job's picture may have ended with.
_ENDS = (
    *("invalid_parameter", "deadline_exceeded", "overloaded", "out_of_memory"),
    *("inference_failed", "inference_invalid"),
)


def _problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The answers that problems have, by status, with those that any route can give."""
    answers: dict[int | str, dict[str, Any]] = {}
    for code in dict.fromkeys((*codes, *_ANYWHERE)):
        kind = KINDS[code]
        answer = answers.setdefault(kind.status, {"description": "", "content": _PROBLEM_CONTENT})
        answer["description"] += f"`{code}`: {kind.title}.\n\n"
        if kind.retryable:
            answer["headers"] = {"Retry-After": _header("integer", "seconds")}
    # Starlette's own, and so no kind of ours.
    answers[405] = {
        "description": "`method_not_allowed`: the path has other methods.",
        "content": _PROBLEM_CONTENT,
        "headers": {"Allow": _header("string", "the methods that the path has")},
    }
    return answers


_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The upscaled picture.",
        "model": UpscaleAnswer,
        "content": {
            f"image/{name}": {"schema": {"type": "string", "format": "binary"}}
            for name in get_args(OutputFormat)
        },
        "headers": _PICTURE_HEADERS,
    }
}

_MADE = {
    "description": "A job has been made of the request, as it asked for.",
    "model": JobStatus,
    "headers": {
        "Location": _header("string", "of the job, relative"),
        "Preference-Applied": _header("string", "respond-async, where the header asked for it"),
        "Idempotent-Replayed": _header("string", "true where the job was made before"),
        "X-Seed": _header("integer", "send it again to get the same picture"),
    },
}

PROBE = _problems()
MODELS = _problems("unauthorized")
UPSCALE: dict[int | str, dict[str, Any]] = {
    **_PICTURE,
    202: _MADE,
    **_problems(*(code for code in KINDS if not code.startswith("job_"))),
}
_NO_JOB = ("unauthorized", "job_not_found", "job_expired")
JOB = _problems(*_NO_JOB)
RESULT: dict[int | str, dict[str, Any]] = {
    **_PICTURE,
    **_problems(*_NO_JOB, "not_acceptable", "job_not_finished", "job_cancelled", *_ENDS),
}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "`queued` (position), `step` (step, of, eta_s), `preview` (a small JPEG in "
        "base64), and `done` (result) or `failed` (a problem) at the end. A comment every 15 s; "
        "`Last-Event-ID` resumes.",
        "content": {"text/event-stream": {"example": EVENTS_EXAMPLE}},
    },
    **JOB,
}


def complete(app: FastAPI) -> None:
    """Make the document of all routes, without the 422 that FastAPI adds for path and headers.

    Ours are plain text, so that nothing of the kind is ever answered.
    """
    document = app.openapi()
    for path in document["paths"].values():
        for operation in path.values():
            added = operation["responses"].get("422", {}).get("content", {})
            if "application/json" in added:
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
