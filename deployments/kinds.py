"""Sorts of problems, and what ids look like; light, since Serve's proxy imports it as well."""

import re
from dataclasses import dataclass

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:nullscale:problem:"
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of problem: its HTTP status, its title, and whether trying again may help."""

    status: int
    title: str
    retryable: bool = False


KINDS = {
    "malformed_multipart": Kind(400, "The body is no valid multipart form"),
    "unauthorized": Kind(401, "A valid API key is needed"),
    "not_found": Kind(404, "Not Found"),
    "job_not_found": Kind(404, "There is no such job"),
    "not_acceptable": Kind(406, "The answer cannot be made in an accepted media type"),
    "request_timeout": Kind(408, "The request took too long", retryable=True),
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
    "headers_too_large": Kind(431, "The request's headers are too large"),
    "inference_failed": Kind(500, "The model failed on this request"),
    "inference_invalid": Kind(500, "The model produced no valid picture"),
    "internal_error": Kind(500, "Internal error"),
    "overloaded": Kind(503, "The server has too much to do", retryable=True),
    "out_of_memory": Kind(503, "The device has no room for this picture", retryable=True),
    "replica_lost": Kind(503, "The worker on this request was lost", retryable=True),
    "not_ready": Kind(503, "No worker is ready", retryable=True),
    "jobs_paused": Kind(503, "No new jobs are taken at present", retryable=True),
    "deadline_exceeded": Kind(504, "The request took too long", retryable=True),
}
