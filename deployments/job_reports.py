"""What is said of a job: its status, and its events as they come."""

import base64
from datetime import UTC, datetime
from typing import Any

import numpy as np
from jaxtyping import UInt8

from deployments.job_store import Job, JobStore
from deployments.problems import Problem, details_of
from deployments.schemas import JobStatus
from nullscale.imaging.encoding import encode_image
from sr_engine.events import Progress, QueuedEvent, StepEvent

PREVIEW_QUALITY = 70


def status_of(job: Job, store: JobStore) -> JobStatus:
    """Say how a job stands, and until when the store keeps it."""
    expires_s = store.expires_s(job)
    problem = job.outcome if isinstance(job.outcome, Problem) else None
    return JobStatus(
        id=job.job_id,
        status=job.state,
        seed=job.seed,
        request_id=job.request_id,
        created_at=_time(job.created_s),
        started_at=None if job.started_s is None else _time(job.started_s),
        ended_at=None if job.ended_s is None else _time(job.ended_s),
        expires_at=None if expires_s is None else _time(expires_s),
        problem=None if problem is None else details_of(problem, job.request_id),
        result_url=f"/v1/jobs/{job.job_id}/result",
        events_url=f"/v1/jobs/{job.job_id}/events",
    )


def tell(job: Job, event: Progress) -> None:
    """Add what a worker says to a job's events."""
    if isinstance(event, QueuedEvent):
        job.tell("queued", {"position": event.position, "eta_s": round(event.eta_s, 3)})
    elif isinstance(event, StepEvent):
        step = {"step": event.step, "of": event.of, "eta_s": round(event.eta_s, 3)}
        job.tell("step", step)
        if event.preview is not None:
            job.tell("preview", _preview(event.preview))


def _preview(samples: UInt8[np.ndarray, "h w 3"]) -> dict[str, Any]:
    height, width, _ = samples.shape
    encoded = encode_image(samples, "jpeg", PREVIEW_QUALITY)
    image = base64.b64encode(encoded).decode("ascii")
    return {"image": image, "media_type": "image/jpeg", "width": width, "height": height}


def _time(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)
