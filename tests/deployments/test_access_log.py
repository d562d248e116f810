import asyncio
import logging
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from asgi import exchange, scope_of
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from deployments import access_log, problems
from deployments.access_log import AccessLog
from deployments.metrics import REQUEST_SECONDS, HttpMetrics
from sr_engine.metrics import PrometheusRecorder


class Service:
    """A small application with every sort of end, and what was recorded of it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = HttpMetrics(PrometheusRecorder(self.registry))
        self.entered = asyncio.Event()
        app = FastAPI()
        problems.install(app)
        app.add_middleware(AccessLog, metrics=self.metrics)
        app.add_api_route("/v1/jobs/{job}", self.job)
        app.add_api_route("/crash", self.crash)
        app.add_api_route("/busy", self.busy)
        app.add_api_route("/wait", self.wait)
        app.add_api_route("/stream", self.stream)
        app.add_api_route("/livez", self.job_free)
        self.app = app

    async def job(self, job: str) -> Response:
        return Response(b"12345")

    async def job_free(self) -> Response:
        return Response(b"")

    async def crash(self) -> Response:
        raise RuntimeError("crash")

    async def busy(self) -> Response:
        raise problems.Problem("overloaded", "too much", retry_after_s=1)

    async def wait(self) -> Response:
        self.entered.set()
        await asyncio.Event().wait()
        return Response()

    async def stream(self) -> Response:
        async def forever() -> AsyncIterator[bytes]:
            yield b"x"
            self.entered.set()
            await asyncio.Event().wait()

        return StreamingResponse(forever())

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"nullscale_{name}", labels)


async def forever(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


async def never() -> Message:
    raise AssertionError("nobody asks")


async def nothing(message: Message) -> None:
    pass


@pytest.fixture
def service() -> Service:
    return Service()


def line(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    (record,) = (r for r in caplog.records if r.name == "deployments.access_log")
    return record


async def test_a_request_is_one_line_and_one_count(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    headers = [(b"x-request-id", b"mine")]
    await exchange(service.app, scope_of("GET", "/v1/jobs/77", headers))
    record = line(caplog)
    assert record.getMessage().startswith("GET /v1/jobs/{job} 200 ok, ")
    seen = {k: record.__dict__[k] for k in ("http_route", "status", "outcome", "request_id")}
    assert seen == {
        "http_route": "/v1/jobs/{job}",
        "status": 200,
        "outcome": "done",
        "request_id": "mine",
    }
    assert (record.__dict__["sent_bytes"], record.__dict__["received_bytes"]) == (5, 0)
    labels = {"route": "/v1/jobs/{job}", "method": "GET", "status": "200", "code": "ok"}
    assert service.value("http_requests_total", **labels) == 1
    assert service.value("http_request_seconds_count", route="/v1/jobs/{job}", status="200") == 1
    assert service.value("http_in_flight") == 0


@pytest.mark.parametrize(
    ("path", "route", "status", "code", "outcome"),
    [
        ("/v1/jobs", "unmatched", 404, "not_found", "refused"),
        ("/x/../../etc", "unmatched", 404, "not_found", "refused"),
        ("/busy", "/busy", 503, "overloaded", "failed"),
        ("/crash", "/crash", 500, "internal_error", "failed"),
    ],
)
async def test_errors_have_their_code(
    service: Service,
    caplog: pytest.LogCaptureFixture,
    path: str,
    route: str,
    status: int,
    code: str,
    outcome: str,
) -> None:
    caplog.set_level(logging.INFO)
    if path == "/crash":
        with pytest.raises(RuntimeError):
            await exchange(service.app, scope_of("GET", path))
    else:
        await exchange(service.app, scope_of("GET", path))
    assert line(caplog).__dict__["outcome"] == outcome
    labels = {"route": route, "method": "GET", "status": str(status), "code": code}
    assert service.value("http_requests_total", **labels) == 1
    refused = service.value("refused_total", code=code)
    assert refused == (1 if status == 503 else None)


@pytest.mark.parametrize("path", ["/wait", "/stream"])
async def test_a_cancelled_request_is_a_client_that_has_gone(
    service: Service, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    caplog.set_level(logging.INFO)
    task = asyncio.create_task(exchange(service.app, scope_of("GET", path)))
    await service.entered.wait()
    assert service.value("http_in_flight") == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert line(caplog).__dict__["outcome"] == "gone"
    labels = {"route": path, "method": "GET", "status": "499", "code": "client_gone"}
    assert service.value("http_requests_total", **labels) == 1
    assert service.value("http_in_flight") == 0


async def test_a_client_that_leaves_a_stream_has_gone(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await exchange(service.app, scope_of("GET", "/stream"), leave=True)
    assert line(caplog).__dict__["status"] == 499


async def test_probes_that_succeed_are_not_logged(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await exchange(service.app, scope_of("GET", "/livez"))
    assert not [r for r in caplog.records if r.name == "deployments.access_log"]
    labels = {"route": "/livez", "method": "GET", "status": "200", "code": "ok"}
    assert service.value("http_requests_total", **labels) == 1


async def test_the_gauge_is_said_again_while_the_application_lives(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "REPEAT_S", 0.001)
    times = 0
    several = asyncio.Event()

    def refresh() -> None:
        nonlocal times
        times += 1
        if times == 3:
            several.set()

    monkeypatch.setattr(service.metrics, "refresh", refresh)
    messages: asyncio.Queue[Message] = asyncio.Queue()
    messages.put_nowait({"type": "lifespan.startup"})

    async def send(message: Message) -> None:
        pass

    life = asyncio.create_task(
        service.app({"type": "lifespan", "asgi": {"version": "3.0"}}, messages.get, send)
    )
    await several.wait()
    messages.put_nowait({"type": "lifespan.shutdown"})
    await life
    after = times
    await asyncio.sleep(0.02)
    assert times == after


async def test_a_gauge_that_cannot_be_said_once_is_said_again(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access_log, "REPEAT_S", 0.001)
    looks = 0
    said = asyncio.Event()

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RuntimeError("nothing to see")

    def refresh() -> None:
        if looks == 1:
            raise OSError("nobody listens")
        said.set()

    monkeypatch.setattr(service.metrics, "refresh", refresh)
    log = AccessLog(forever, service.metrics, look)
    life = asyncio.create_task(log({"type": "lifespan"}, never, nothing))
    async with asyncio.timeout(30):
        await said.wait()
    life.cancel()
    with pytest.raises(asyncio.CancelledError):
        await life
    assert [str(r.exc_info[1]) for r in caplog.records if r.exc_info] == [
        "nothing to see",
        "nobody listens",
    ]


async def test_unknown_methods_share_a_label(service: Service) -> None:
    await exchange(service.app, scope_of("BREW", "/busy"))
    labels = {"route": "/busy", "method": "other", "status": "405", "code": "method_not_allowed"}
    assert service.value("http_requests_total", **labels) == 1


def test_the_buckets_are_even() -> None:
    pairs = pairwise(REQUEST_SECONDS)
    assert all(1 < later / sooner <= 2.5 for sooner, later in pairs)
