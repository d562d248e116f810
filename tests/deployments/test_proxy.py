import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from asgi import Answer, exchange, scope_of
from hypothesis import given
from hypothesis import strategies as st
from ray.serve._private import constants
from ray.serve._private.http_util import (
    _apply_middlewares,
    convert_object_to_asgi_messages,
    validate_http_proxy_callback_return,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments import proxy
from deployments.kinds import KINDS
from deployments.schemas import ProblemDetails

LIMIT = 1000


@pytest.fixture
def wrap(monkeypatch: pytest.MonkeyPatch) -> Callable[[ASGIApp], ASGIApp]:
    """An application behind our middlewares, applied by Serve's own code."""
    monkeypatch.setenv(proxy.MAX_BODY_VARIABLE, str(LIMIT))
    return lambda app: _apply_middlewares(
        app, validate_http_proxy_callback_return(proxy.middlewares())
    )


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request's headers and the length of its body."""
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message["more_body"]
    headers = [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]]
    body = json.dumps({"headers": headers, "length": length}).encode()
    start = {"type": "http.response.start", "status": 200, "headers": []}
    await send({**start, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


def says(*messages: Message) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def problem(answer: Answer) -> dict[str, Any]:
    """The answer's problem, after the checks that hold for every one."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["content-length"]) == len(answer.body)
    found: dict[str, Any] = json.loads(answer.body)
    assert set(found) == set(ProblemDetails.model_fields)
    ProblemDetails.model_validate(found, strict=True)
    assert found["status"] == answer.status
    assert answer.headers.getlist("x-request-id") == [found["request_id"]]
    assert ("retry-after" in answer.headers) == found["retryable"]
    return found


async def test_a_request_passes(wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    headers = [(b"accept", b"image/png"), (b"content-length", b"7")]
    answer = await exchange(wrap(echo), scope_of(headers=headers), [b"abcd", b"efg"])
    assert answer.status == 200
    got = json.loads(answer.body)
    assert got["length"] == 7
    assert ["accept", "image/png"] in got["headers"]


@pytest.mark.parametrize(
    "name",
    [
        "x-request-timeout-seconds",
        "x-request-disconnect-disabled",
        "serve_multiplexed_model_id",
        "serve-multiplexed-model-id",
        "x-session-id",
        "x_session_id",
        "x-serve-router-target",
    ],
)
async def test_what_clients_may_not_say_is_taken_away(
    wrap: Callable[[ASGIApp], ASGIApp], name: str
) -> None:
    answer = await exchange(wrap(echo), scope_of(headers=[(name.encode(), b"?1")]))
    assert [pair[0] for pair in json.loads(answer.body)["headers"]] == ["x-request-id"]


def test_the_names_are_serves_own() -> None:
    names = {
        constants.SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        constants.SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
        constants.SERVE_MULTIPLEXED_MODEL_ID,
        constants.SERVE_SESSION_ID,
    }
    assert {name.lower().replace("_", "-").encode() for name in names} == proxy.STRIPPED
    assert constants.SERVE_INGRESS_ROUTER_HEADER_PREFIX.encode() == proxy.STRIPPED_PREFIX


@given(given_ids=st.lists(st.binary(max_size=80), max_size=3))
async def test_there_is_one_good_request_id(given_ids: list[bytes]) -> None:
    app = _apply_middlewares(echo, proxy.middlewares())
    answer = await exchange(app, scope_of(headers=[(b"x-request-id", i) for i in given_ids]))
    (in_app,) = (v for k, v in json.loads(answer.body)["headers"] if k == "x-request-id")
    assert answer.headers.getlist("x-request-id") == [in_app]
    assert 1 <= len(in_app) <= 64
    assert set(in_app) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


@pytest.mark.parametrize("good", ["a", "A_z-9", "x" * 64])
async def test_a_good_request_id_stays(wrap: Callable[[ASGIApp], ASGIApp], good: str) -> None:
    answer = await exchange(wrap(echo), scope_of(headers=[(b"x-request-id", good.encode())]))
    assert answer.headers["x-request-id"] == good


@pytest.mark.parametrize(
    ("value", "stays"),
    [
        (b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01", True),
        (b"\xff", False),
        (b"00-1-2-01", False),
    ],
)
async def test_a_traceparent_stays_if_it_is_one(
    wrap: Callable[[ASGIApp], ASGIApp], value: bytes, stays: bool
) -> None:
    answer = await exchange(wrap(echo), scope_of(headers=[(b"traceparent", value)]))
    assert any(k == "traceparent" for k, _ in json.loads(answer.body)["headers"]) == stays


@pytest.mark.parametrize("declared", [b"1001", b"9" * 30, b"9" * 5000, b"-1", b"1e3"])
async def test_a_declared_body_over_the_limit_is_refused_unread(
    wrap: Callable[[ASGIApp], ASGIApp], declared: bytes
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the application is not asked")

    scope = scope_of(headers=[(b"content-length", declared), (b"x-request-id", b"mine")])
    answer = await exchange(wrap(app), scope, [b"x" * 10])
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    assert problem(answer)["code"] == "body_too_large"
    assert problem(answer)["request_id"] == "mine"


@given(sizes=st.lists(st.integers(0, 700), min_size=1, max_size=6))
async def test_a_streamed_body_ends_at_the_limit(sizes: list[int]) -> None:
    counts: list[str] = []
    app = _apply_middlewares(proxy.Limits(echo, LIMIT, counts.append), [])
    answer = await exchange(app, scope_of(), [b"x" * size for size in sizes])
    if sum(sizes) <= LIMIT:
        assert json.loads(answer.body)["length"] == sum(sizes)
        assert counts == []
    else:
        assert counts == ["body_too_large"]
        assert (answer.status, json.loads(answer.body)["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "headers",
    [
        [(b"a", b"b")] * (proxy.MAX_HEADERS + 1),
        [(b"cookie", b"x" * proxy.MAX_HEADER_BYTES)],
    ],
)
async def test_large_headers_are_refused(
    wrap: Callable[[ASGIApp], ASGIApp], headers: list[tuple[bytes, bytes]]
) -> None:
    answer = await exchange(wrap(echo), scope_of(headers=headers))
    assert answer.status == 431
    assert problem(answer)["code"] == "headers_too_large"


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (404, "not_found", False),
        (408, "request_timeout", True),
        (429, "too_many_requests", True),
        (500, "internal_error", False),
        (503, "not_ready", True),
        (502, "bad_gateway", False),
        (499, "error", False),
    ],
)
async def test_plain_errors_become_problems(
    wrap: Callable[[ASGIApp], ASGIApp], status: int, code: str, retryable: bool
) -> None:
    secret = 'Traceback: File "/srv/app.py", class Upscaler'
    answer = await exchange(wrap(says(*convert_object_to_asgi_messages(secret, status))))
    assert answer.status == status
    found = problem(answer)
    assert (found["code"], found["retryable"]) == (code, retryable)
    assert not any(word in answer.body.decode() for word in ("Trace", "/srv", "Upscaler"))
    if code in KINDS:
        assert (KINDS[code].title, KINDS[code].status) == (found["title"], status)


async def test_a_retry_after_of_serves_stays(wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    messages = convert_object_to_asgi_messages("busy", 503, [(b"retry-after", b"17")])
    assert (await exchange(wrap(says(*messages)))).headers["retry-after"] == "17"


@pytest.mark.parametrize("path", ["/-/healthz", "/-/routes"])
async def test_serves_own_routes_stay(wrap: Callable[[ASGIApp], ASGIApp], path: str) -> None:
    app = wrap(says(*convert_object_to_asgi_messages("DRAINING", 503)))
    answer = await exchange(app, scope_of("GET", path))
    assert (answer.status, answer.body) == (503, b"DRAINING")


@pytest.mark.parametrize("media_type", [b"application/problem+json", b"application/json"])
@pytest.mark.parametrize("status", [404, 422, 503])
async def test_the_applications_errors_stay(
    wrap: Callable[[ASGIApp], ASGIApp], media_type: bytes, status: int
) -> None:
    headers = [(b"content-type", media_type), (b"retry-after", b"3")]
    app = says(
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": b"{}"},
    )
    answer = await exchange(wrap(app))
    assert (answer.status, answer.body) == (status, b"{}")
    assert set(headers) <= set(answer.headers.raw)


async def test_a_stream_passes_piece_by_piece(wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    arrived: list[int] = []
    answer = Answer()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for index in range(3):
            await send({"type": "http.response.body", "body": b"x", "more_body": index < 2})
            arrived.append(len(answer.messages))

    async def send(message: Message) -> None:
        answer.messages.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    await wrap(app)(scope_of("GET"), receive, send)
    assert arrived == [2, 3, 4]


async def test_no_answer_at_all_is_a_lost_replica(wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    answer = await exchange(wrap(says()))
    assert answer.status == 503
    assert problem(answer)["code"] == "replica_lost"


async def test_an_exception_is_a_problem(wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret")

    answer = await exchange(wrap(app), scope_of(headers=[(b"x-request-id", b"mine")]))
    assert (answer.status, problem(answer)["code"]) == (500, "internal_error")
    assert b"secret" not in answer.body


async def test_a_client_that_has_left_is_told_nothing(wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    assert (await exchange(wrap(app), leave=True)).messages == []


async def test_an_answer_that_breaks_off_stays_broken(wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    start = {"type": "http.response.start", "status": 200, "headers": []}
    part = {"type": "http.response.body", "body": b"half", "more_body": True}
    answer = await exchange(wrap(says(start, part)))
    assert answer.messages[-1] == part


async def test_other_scopes_pass(wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    timeout = (b"x-request-timeout-seconds", b"1")
    await exchange(wrap(app), {**scope_of(headers=[timeout]), "type": "websocket"})
    (scope,) = seen
    assert [name for name, _ in scope["headers"]] == [b"x-request-id"]


@pytest.mark.parametrize("value", ["", "0", "-5", "32MiB", "1e6"])
def test_a_limit_that_is_none_stops_the_proxy(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(proxy.MAX_BODY_VARIABLE, value)
    with pytest.raises(ValueError, match=proxy.MAX_BODY_VARIABLE):
        proxy.middlewares()


def test_the_proxy_loads_nothing_heavy() -> None:
    code = "import sys, deployments.proxy; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "diffusers", "transformers", "numpy", "PIL", "ray", "nullscale", "sr_engine"}
    assert not heavy & set(done.stdout.split())


async def test_a_refusal_is_sent_at_once_and_the_rest_thrown_away() -> None:
    taken = asyncio.Event()
    sent: list[Message] = []

    async def receive() -> Message:
        # Nothing arrives until the whole answer has left.
        await taken.wait()
        return {"type": "http.request", "body": b"x", "more_body": len(sent) < 2}

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            taken.set()

    counts: list[str] = []
    app = proxy.Linger(proxy.Limits(echo, LIMIT, counts.append))
    await app(scope_of(headers=[(b"content-length", b"5000")]), receive, send)
    start, body, end = sent
    assert start["status"] == 413
    assert body["more_body"] and len(body["body"]) > 0
    assert not end.get("more_body", False) and end["body"] == b""


async def test_lingering_ends_though_the_client_does_not() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("nothing arrives")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    counts: list[str] = []
    app = proxy.Linger(proxy.Limits(echo, LIMIT, counts.append), linger_s=0.01)
    await app(scope_of(headers=[(b"content-length", b"5000")]), receive, send)
    assert len(sent) == 3


@pytest.mark.parametrize(("clients", "pause_s"), [(5, 0), (1, 3)])
def test_a_client_that_writes_before_it_reads_gets_its_refusal(
    clients: int, pause_s: float
) -> None:
    app = proxy.Linger(proxy.Limits(echo, LIMIT, lambda code: None))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            for _ in range(clients):
                with socket.create_connection(listening.getsockname(), timeout=30) as client:
                    size = 10_000_000
                    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
                    # Without lingering this ends in a reset.
                    client.sendall(head.encode() + bytes(size // 2))
                    time.sleep(pause_s)
                    client.sendall(bytes(size // 2))
                    assert client.recv(100).startswith(b"HTTP/1.1 413 ")
        finally:
            server.should_exit = True
            thread.join()
