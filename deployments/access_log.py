"""One line and one count a request, whatever becomes of it."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.metrics import HttpMetrics
from deployments.repeating import REPEAT_S, attempt

logger = logging.getLogger(__name__)

CLIENT_GONE = 499
# Asked every few seconds by whoever watches; their lines would bury the others.
QUIET = frozenset({"/livez", "/readyz"})


@dataclass(slots=True)
class Exchange:
    """What has been seen of one request and its answer."""

    status: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    complete: bool = False
    gone: bool = False


class AccessLog:
    """Wraps the whole application: logs, and records in ``metrics``, each request at its end.

    The route is the template (``/v1/jobs/{id}``), never the path. A client that has left before the
    end of its answer is a 499. Nothing is held back: messages pass as they come. ``look`` is called
    before gauges are said again, for those that change while nothing happens.
    """

    def __init__(
        self, app: ASGIApp, metrics: HttpMetrics, look: Callable[[], None] = lambda: None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._look = look

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and the answer back, and watch."""
        if scope["type"] == "lifespan":
            return await self._live(scope, receive, send)
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        seen = Exchange()

        async def receiving() -> Message:
            message = await receive()
            seen.received_bytes += len(message.get("body", b""))
            seen.gone = seen.gone or (message["type"] == "http.disconnect" and not seen.complete)
            return message

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            elif message["type"] == "http.response.body":
                seen.sent_bytes += len(message.get("body", b""))
                seen.complete = not message.get("more_body", False)
            await send(message)

        start_s = time.perf_counter()
        self._metrics.started()
        try:
            await self._app(scope, receiving, sending)
        except asyncio.CancelledError:
            # So Serve says that the client has left.
            seen.gone = not seen.complete
            raise
        except Exception:
            # Becomes an answer further out.
            seen.status = seen.status or 500
            raise
        finally:
            self._ended(scope, seen, time.perf_counter() - start_s)

    def _ended(self, scope: Scope, seen: Exchange, seconds: float) -> None:
        status = CLIENT_GONE if seen.gone or not seen.status else seen.status
        route = getattr(scope.get("route"), "path", "unmatched")
        code = _code(scope, status)
        self._metrics.ended(
            route=route, method=scope["method"], status=status, code=code, seconds=seconds
        )
        fields = {
            "method": scope["method"],
            "http_route": route,
            "status": status,
            "code": code,
            "seconds": round(seconds, 4),
            "received_bytes": seen.received_bytes,
            "sent_bytes": seen.sent_bytes,
            "outcome": _outcome(status),
            "request_id": Headers(scope=scope).get("x-request-id", ""),
        }
        logger.log(
            logging.DEBUG if route in QUIET and status < 400 else logging.INFO,
            "%s %s %d %s, %.3f s, %d bytes in, %d out",
            *(scope["method"], route, status, code, seconds),
            *(seen.received_bytes, seen.sent_bytes),
            extra=fields,
        )

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Keep the gauges alive for as long as the application lives."""

        async def refresh() -> None:
            while True:
                attempt(self._look)
                attempt(self._metrics.refresh)
                await asyncio.sleep(REPEAT_S)

        task = asyncio.create_task(refresh())
        try:
            await self._app(scope, receive, send)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def _code(scope: Scope, status: int) -> str:
    """The problem's code, which its answer left with the request; "ok" where there was none."""
    if status == CLIENT_GONE:
        return "client_gone"
    known: str = scope.get("state", {}).get("problem_code", "")
    return known or ("ok" if status < 400 else "internal_error" if status == 500 else "other")


def _outcome(status: int) -> str:
    if status == CLIENT_GONE:
        return "gone"
    return "done" if status < 400 else "refused" if status < 500 else "failed"
