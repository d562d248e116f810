"""Our middlewares, logs and spans in a real proxy, before a small application."""

import asyncio
import contextlib
import json
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from fastapi import FastAPI, Request
from marks import CLUSTER
from ray import serve
from ray.serve.schema import LoggingConfig

from deployments.schemas import ProblemDetails

LIMIT = 1_000_000
REACHED_S = 30

pytestmark = CLUSTER


def application() -> serve.Application:
    """Local, so that Ray sends the code itself: no worker could import this file."""

    class Small:
        def __init__(self) -> None:
            from deployments import logs

            logs.join_serve()

        def __serve_build_asgi_app__(self) -> FastAPI:
            from deployments.access_log import AccessLog
            from deployments.metrics import HttpMetrics, RayRecorder

            app = FastAPI()
            app.add_middleware(AccessLog, metrics=HttpMetrics(RayRecorder()))
            app.add_api_route("/echo/{word}", self.echo, methods=["POST"])
            app.add_api_route("/raise", self.crash)
            app.add_api_route("/die", self.die)
            app.add_api_route("/wait", self.wait)
            return app

        async def echo(self, word: str, request: Request) -> dict[str, Any]:
            logging.getLogger("sr_engine.engine").info("the word is %s", word)
            body = await request.body()
            # Longer than the timeout that the client asks for.
            await asyncio.sleep(0.2)
            return {"headers": dict(request.headers), "bytes": len(body)}

        async def crash(self) -> None:
            raise RuntimeError("a secret")

        async def die(self) -> None:
            os._exit(1)

        async def wait(self) -> None:
            await asyncio.sleep(2)

    deployment = serve.deployment(
        serve.ingress()(Small),
        max_ongoing_requests=2,
        max_queued_requests=1,
        ray_actor_options={"num_cpus": 0.1},
        logging_config=LoggingConfig(encoding="JSON"),
    )
    return deployment.bind()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "deployments.proxy.middlewares")
        patch.setenv("NULLSCALE_MAX_BODY_BYTES", str(LIMIT))
        path = "deployments.tracing.span_processors"
        patch.setenv("RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH", path)
        patch.setenv("RAY_SERVE_TRACING_SAMPLING_RATIO", "1")
        patch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
        patch.setenv("RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S", "60")
        patch.setenv("RAY_worker_niceness", "0")
        # Not "auto": that would join whatever cluster this machine ran last.
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            serve.run(application(), route_prefix="/app")
            yield f"http://127.0.0.1:{port}"
        finally:
            serve.shutdown()
            ray.shutdown()


def problem(response: httpx.Response) -> ProblemDetails:
    assert response.headers["content-type"] == "application/problem+json", response.text
    found = ProblemDetails.model_validate_json(response.content, strict=True)
    assert found.status == response.status_code
    assert response.headers.get_list("x-request-id") == [found.request_id]
    assert ("retry-after" in response.headers) == found.retryable
    return found


def serve_logs() -> Path:
    folder: str = ray._private.worker._global_node.get_logs_dir_path()
    return Path(folder) / "serve"


def reached(folder: Path, pattern: str, *texts: str) -> str:
    """The first line with all ``texts``; waits for it, as files are written behind the answer."""
    deadline_s = time.monotonic() + REACHED_S
    while time.monotonic() < deadline_s:
        for path in folder.glob(pattern):
            with contextlib.suppress(StopIteration):
                lines = path.read_text().splitlines()
                return next(line for line in lines if all(text in line for text in texts))
        time.sleep(0.1)
    listing = {path.name: path.read_text()[-500:] for path in folder.glob(pattern)}
    pytest.fail(f"{texts} are not in {listing}")


def test_headers_are_cleaned(url: str) -> None:
    sent = {
        "x-request-timeout-seconds": "0.01",
        "x-request-disconnect-disabled": "?1",
        "x-session-id": "me",
        "x-request-id": "no good: " + "x" * 6000,
        "x-kept": "yes",
    }
    response = httpx.post(f"{url}/app/echo/hello", headers=sent, content=b"abc", timeout=60)
    assert response.status_code == 200
    got = response.json()
    assert got["bytes"] == 3
    assert got["headers"]["x-kept"] == "yes"
    assert not set(sent) - {"x-request-id", "x-kept"} & set(got["headers"])
    (request_id,) = response.headers.get_list("x-request-id")
    assert request_id == got["headers"]["x-request-id"]
    assert len(request_id) <= 64


def test_every_line_and_a_span_have_the_id(url: str) -> None:
    headers = {"x-request-id": "find-me"}
    httpx.post(f"{url}/app/echo/found", headers=headers, timeout=60).raise_for_status()
    ours = json.loads(reached(serve_logs(), "replica_*.log", "the word is found"))
    assert ours["request_id"] == "find-me"
    texts = ("POST /echo/{word} 200 ok", '"request_id": "find-me"')
    access = json.loads(reached(serve_logs(), "replica_*.log", *texts))
    assert access["outcome"] == "done"
    assert access["http_route"] == "/echo/{word}"
    assert "find-me" in reached(serve_logs() / "spans", "*", '"request_id": "find-me"')


def test_a_large_body_is_refused_and_the_client_can_read_it(url: str) -> None:
    response = httpx.post(f"{url}/app/echo/x", content=b"x" * 8 * LIMIT, timeout=60)
    assert response.status_code == 413
    assert response.headers["connection"] == "close"
    assert problem(response).code == "body_too_large"


def test_a_large_stream_is_refused(url: str) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(30):
            yield b"x" * (LIMIT // 10)

    response = httpx.post(f"{url}/app/echo/x", content=body(), timeout=60)
    assert response.status_code == 413
    assert problem(response).code == "body_too_large"


def test_unknown_paths_are_problems_and_serves_own_are_not(url: str) -> None:
    found = problem(httpx.get(f"{url}/elsewhere", headers={"x-request-id": "mine"}))
    assert (found.code, found.request_id) == ("not_found", "mine")
    assert httpx.get(f"{url}/-/healthz").text == "success"
    assert httpx.get(f"{url}/-/routes").json() == {"/app": "default"}


def test_the_applications_own_errors_pass(url: str) -> None:
    response = httpx.get(f"{url}/app/elsewhere")
    assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})


def test_an_exception_is_a_problem_without_its_text(url: str) -> None:
    response = httpx.get(f"{url}/app/raise", timeout=60)
    assert problem(response).code == "internal_error"
    assert "secret" not in response.text


async def test_too_many_requests_are_a_problem(url: str) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        answers = await asyncio.gather(*(client.get(f"{url}/app/wait") for _ in range(6)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) < 6
    assert {problem(answer).code for answer in refused} == {"not_ready"}


def test_a_dead_replica_is_a_problem(url: str) -> None:
    response = httpx.get(f"{url}/app/die", timeout=60)
    assert problem(response).code == "replica_lost"


def test_the_metrics_are_exported(url: str) -> None:
    httpx.post(f"{url}/app/echo/counted", timeout=60).raise_for_status()
    httpx.post(f"{url}/app/echo/x", content=b"x" * 2 * LIMIT, timeout=60)
    (node,) = ray.nodes()
    exported = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    counted = r'ray_nullscale_http_requests_total{.*code="ok".*route="/echo/{word}".*'
    wanted = [
        counted,
        r"ray_nullscale_http_in_flight{.*",
        r'ray_nullscale_http_request_seconds_bucket{.*le="15.*"',
        r'ray_nullscale_proxy_refused_total{.*code="body_too_large"',
    ]
    deadline_s = time.monotonic() + REACHED_S
    missing = wanted
    while missing and time.monotonic() < deadline_s:
        text = httpx.get(exported).text
        missing = [pattern for pattern in wanted if not re.search(pattern, text)]
        time.sleep(0.5)
    assert not missing, [line for line in text.splitlines() if "nullscale" in line]
