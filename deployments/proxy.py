"""What Serve's HTTP proxy does to requests before, and to answers after, the application.

Named by ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=deployments.proxy.middlewares`` in the
environment of every node. It runs in the proxy's process and must stay light: no torch.
"""

import logging
import os
import re
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments import logs
from deployments.kinds import REQUEST_ID
from deployments.linger import Linger
from deployments.plain_errors import PlainErrors, answer, request_id_of
from deployments.resend import Resend

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


def middlewares() -> list[Middleware]:
    """The proxy's middlewares, the innermost first, as Serve applies them.

    Raises:
        ValueError: the limit in the environment is no positive whole number.
    """
    max_bytes = max_body_bytes()
    logs.join_serve()
    return [
        Middleware(Resend),
        Middleware(PlainErrors),
        Middleware(Limits, max_body_bytes=max_bytes, count=_counter()),
        Middleware(Linger),
        Middleware(CleanHeaders),
    ]


def max_body_bytes() -> int:
    """Return the limit that this process's environment sets.

    Raises:
        ValueError: it is no positive whole number.
    """
    given = os.environ.get(MAX_BODY_VARIABLE, str(DEFAULT_MAX_BODY_BYTES))
    if not re.fullmatch(r"[1-9][0-9]*", given):
        raise ValueError(f"{MAX_BODY_VARIABLE} must be a number of bytes, not {given!r}")
    return int(given)


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

    def __init__(self, app: ASGIApp, max_body_bytes: int, count: Callable[[str], None]) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 413 or 431."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        target = len(scope.get("raw_path") or b"") + len(scope.get("query_string", b""))
        size = target + sum(len(name) + len(value) for name, value in scope["headers"])
        if size > MAX_HEADER_BYTES or len(scope["headers"]) > MAX_HEADERS:
            detail = f"at most {MAX_HEADERS} headers, {MAX_HEADER_BYTES} bytes with the path"
            return await self._refuse(scope, send, "headers_too_large", detail)
        too_large = f"the body is larger than {self._max_body_bytes} bytes"
        declared = Headers(scope=scope).get("content-length", "0")
        # Twenty digits are more than any limit, and int() would refuse some thousands.
        countable = declared.isdecimal() and len(declared) < 20
        if not countable or int(declared) > self._max_body_bytes:
            return await self._refuse(scope, send, "body_too_large", too_large)

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
            await self._refuse(scope, send, "body_too_large", too_large)

    async def _refuse(self, scope: Scope, send: Send, code: str, detail: str) -> None:
        """Answer before Serve knows of the request: nobody else logs or counts it."""
        logger.info("refused: %s", code, extra={"request_id": request_id_of(scope)})
        self._count(code)
        await answer(scope, send, code, detail, close=True)


def _counter() -> Callable[[str], None]:
    """Return what counts a refusal by its code, on Ray's instrument."""
    from ray.util.metrics import Counter

    made = Counter("nullscale_proxy_refused_total", "Requests the proxy turned away", ("code",))
    return lambda code: made.inc(1, {"code": code})


def _is_harmless(name: bytes, value: bytes) -> bool:
    name = name.lower().replace(b"_", b"-")
    if name == b"traceparent":
        # Serve decodes it unchecked.
        return TRACEPARENT.fullmatch(value) is not None
    return name not in STRIPPED | {b"x-request-id"} and not name.startswith(STRIPPED_PREFIX)
