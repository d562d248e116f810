"""The HTTP side over a fake replica, and pictures to send to it."""

import contextlib
import io
from collections.abc import Coroutine
from typing import Any

import httpx
import numpy as np
from fake_upscaler import FakeJobs, FakeUpscaler
from fastapi import FastAPI
from PIL import Image

from deployments.ingress import Ingress
from deployments.jobs import Jobs
from deployments.limits import Access, IngressSettings, JobSettings, Limits
from deployments.schemas import ProblemDetails

LIMITS = Limits(max_input_pixels=4096, max_output_pixels=65536, max_body_bytes=100_000)


def application(
    upscaler: FakeUpscaler,
    *,
    timeout_s: float = 30.0,
    limits: Limits = LIMITS,
    access: Access | None = None,
    jobs: JobSettings | None = None,
    running: int = 1,
    cold_start_s: float | None = None,
) -> FastAPI:
    settings = IngressSettings(limits=limits, access=access or Access())
    return service(upscaler, settings, timeout_s, jobs, running, cold_start_s)[1]


def service(
    upscaler: FakeUpscaler,
    settings: IngressSettings,
    timeout_s: float = 30.0,
    jobs: JobSettings | None = None,
    running: int = 1,
    cold_start_s: float | None = None,
) -> tuple[Ingress, FastAPI]:
    job_settings = jobs or JobSettings(timeout_s=30)
    owner = Jobs(upscaler, job_settings, lambda: running, again_s=0.01, cold_start_s=cold_start_s)
    ingress = Ingress(
        upscaler,
        FakeJobs(owner),
        timeout_s,
        job_settings.timeout_s,
        lambda: running,
        cold_start_s,
    )
    app = ingress.__serve_build_asgi_app__()
    # In the order in which Serve does it.
    drive(ingress.reconfigure(settings.model_dump()))
    return ingress, app


def drive(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run to its end what waits for nothing, with or without an event loop around it."""
    with contextlib.suppress(StopIteration):
        coroutine.send(None)
        raise AssertionError("it waits")


def client(upscaler: FakeUpscaler, **options: Any) -> httpx.AsyncClient:
    app = application(upscaler, **options)
    # Starlette raises an unexpected error again once it has answered.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def picture(kind: str = "PNG", *, flat: bool = False, size: tuple[int, int] = (8, 6)) -> bytes:
    samples = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    if flat:
        samples[:] = 77
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, kind)
    return buffer.getvalue()


async def send(
    http: httpx.AsyncClient,
    image: bytes | None = None,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> httpx.Response:
    files = {"image": ("photo.png", picture() if image is None else image)}
    return await http.post("/v1/upscale", files=files, data=fields, headers=headers)


def problem(response: httpx.Response, status: int, code: str) -> ProblemDetails:
    assert (response.status_code, response.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), response.text
    details = ProblemDetails.model_validate_json(response.content, strict=True)
    assert (details.status, details.code) == (status, code)
    assert details.title and details.detail and details.request_id
    for secret in ("Traceback", ".py", "/site-packages", "Error"):
        assert secret not in response.text
    return details


def pointers(details: ProblemDetails) -> set[str]:
    return {error.pointer for error in details.errors}
