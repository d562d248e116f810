"""What Serve's HTTP proxy does to requests before, and to answers after, the application.

Named by ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=deployments.proxy.middlewares`` in the
environment of every node. It runs in the proxy's process and must stay light: no torch.
"""

import http
import json
import logging
import os
import re
import uuid

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments import logs
from deployments.kinds import KINDS, MEDIA_TYPE, REQUEST_ID, RETRY_AFTER_S, TYPE_PREFIX
from deployments.linger import Linger

logger = logging.getLogger(__name__)

MAX_BODY_VARIABLE = "NULLSCALE_MAX_BODY_BYTES"
DEFAULT_MAX_BODY_BYTES = 32 * 2**20
MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024

# With these a client would change the server's timeout, keep work alive that nobody waits for, or
# choose its replica. An underscore counts as a hyphen, as it does to Serve.
STRIPPED = frozenset(
    {
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"serve-multiplexed-model-id",
        b"x-session-id",
    }
)
STRIPPED_PREFIX = b"x-serve-router-"
TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

# Serve's own routes: load balancers read their plain text.
UNTOUCHED = frozenset({"/-/healthz", "/-/routes"})

CODES = {
    404: ("not_found", "nothing is served at this path"),
    408: ("request_timeout", "the request did not end in time"),
    429: ("too_many_requests", "too many requests wait already"),
    500: ("internal_error", "the request could not be carried out"),
    503: ("not_ready", "no worker can take the request at the moment"),
}


def middlewares() -> list[Middleware]:
    """The proxy's middlewares, the innermost first, as Serve applies them.

    Raises:
        ValueError: the limit in the environment is no positive whole number.
    """
    given = os.environ.get(MAX_BODY_VARIABLE, str(DEFAULT_MAX_BODY_BYTES))
    if not re.fullmatch(r"[1-9][0-9]*", given):
        raise ValueError(f"{MAX_BODY_VARIABLE} must be a number of bytes, not {given!r}")
    logs.join_serve()
    return [
        Middleware(PlainErrors),
        Middleware(Limits, max_body_bytes=int(given)),
        Middleware(Linger),
        Middleware(CleanHeaders),
    ]


class CleanHeaders:
    """Takes away what clients may not say to Serve, and sees to one good request id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with other headers."""
        if scope["type"] in ("http", "websocket"):
            given = [value for name, value in scope["headers"] if name == b"x-request-id"]
            text = given[0].decode("latin-1") if len(given) == 1 else ""
            request_id = text if REQUEST_ID.fullmatch(text) else uuid.uuid4().hex
            kept = [pair for pair in scope["headers"] if _is_harmless(*pair)]
            scope = {**scope, "headers": [*kept, (b"x-request-id", request_id.encode())]}
        await self._app(scope, receive, send)


class Limits:
    """Refuses bodies and headers that are too large: a body's declared size, and what arrives."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 413 or 431."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        target = len(scope.get("raw_path") or b"") + len(scope.get("query_string", b""))
        size = target + sum(len(name) + len(value) for name, value in scope["headers"])
        if size > MAX_HEADER_BYTES or len(scope["headers"]) > MAX_HEADERS:
            detail = f"at most {MAX_HEADERS} headers, {MAX_HEADER_BYTES} bytes with the path"
            return await _refuse(scope, send, "headers_too_large", detail)
        too_large = f"the body is larger than {self._max_body_bytes} bytes"
        declared = Headers(scope=scope).get("content-length", "0")
        # Twenty digits are more than any limit, and int() would refuse some thousands.
        countable = declared.isdecimal() and len(declared) < 20
        if not countable or int(declared) > self._max_body_bytes:
            return await _refuse(scope, send, "body_too_large", too_large)

        received, started = 0, False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            # To Serve the client is gone: it cancels the call and answers nothing.
            over = received > self._max_body_bytes
            return {"type": "http.disconnect"} if over else message

        async def noticed(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        await self._app(scope, counted, noticed)
        if received > self._max_body_bytes and not started:
            await _refuse(scope, send, "body_too_large", too_large)


class PlainErrors:
    """Makes problems of Serve's own errors: plain text, or no answer at all from a dead replica.

    The application's answers pass unless they are errors in plain text too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and its answer back."""
        if scope["type"] != "http" or scope["path"] in UNTOUCHED:
            return await self._app(scope, receive, send)
        started = replaced = gone = False

        async def seen() -> Message:
            nonlocal gone
            message = await receive()
            gone = gone or message["type"] == "http.disconnect"
            return message

        async def checked(message: Message) -> None:
            nonlocal started, replaced
            if message["type"] == "http.response.start":
                started = True
                headers = Headers(raw=message["headers"])
                plain = headers.get("content-type", "").startswith("text/plain")
                if message["status"] >= 400 and plain:
                    replaced = True
                    code, detail = CODES.get(message["status"], ("", ""))
                    wait_s = headers.get("retry-after")
                    return await _answer(scope, send, code, detail, message["status"], wait_s)
            if not replaced:
                await send(message)

        try:
            await self._app(scope, seen, checked)
        except Exception:
            # The last stop before the server, whose answer would be plain text.
            logger.exception("the proxy failed", extra={"request_id": _request_id(scope)})
            if not started:
                code, detail = CODES[500]
                return await _answer(scope, send, code, detail)
            raise
        if not started and not gone:
            # The application answers its own errors, so its process is gone.
            await _answer(scope, send, "replica_lost", "the worker on this request was lost")


def _is_harmless(name: bytes, value: bytes) -> bool:
    name = name.lower().replace(b"_", b"-")
    if name == b"traceparent":
        # Serve decodes it unchecked.
        return TRACEPARENT.fullmatch(value) is not None
    return name not in STRIPPED | {b"x-request-id"} and not name.startswith(STRIPPED_PREFIX)


async def _refuse(scope: Scope, send: Send, code: str, detail: str) -> None:
    """Answer without having read the body; nobody else will log it."""
    logger.info("refused: %s", code, extra={"request_id": _request_id(scope)})
    await _answer(scope, send, code, detail, close=True)


async def _answer(
    scope: Scope,
    send: Send,
    code: str,
    detail: str,
    status: int | None = None,
    retry_after: str | None = None,
    *,
    close: bool = False,
) -> None:
    """Send a problem; without a ``code``, one of the bare ``status``."""
    kind = KINDS.get(code)
    status = kind.status if kind else status or 500
    phrase = http.HTTPStatus(status).phrase
    retryable = kind.retryable if kind else False
    body = {
        "type": TYPE_PREFIX + code if kind else "about:blank",
        "title": kind.title if kind else phrase,
        "status": status,
        "detail": detail or phrase,
        "code": code or phrase.lower().replace(" ", "_").replace("-", "_"),
        "errors": [],
        "retryable": retryable,
        "request_id": _request_id(scope),
    }
    encoded = json.dumps(body).encode()
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(encoded)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-request-id": _request_id(scope),
    }
    if retryable:
        headers["retry-after"] = retry_after or str(RETRY_AFTER_S)
    if close:
        headers["connection"] = "close"
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": encoded})


def _request_id(scope: Scope) -> str:
    return Headers(scope=scope).get("x-request-id", "")
