"""Errors of Serve's own as problems, like the application's; part of what runs in the proxy."""

import http
import json
import logging

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.kinds import KINDS, MEDIA_TYPE, RETRY_AFTER_S, TYPE_PREFIX

logger = logging.getLogger(__name__)

# Serve's own routes: load balancers read their plain text.
UNTOUCHED = frozenset({"/-/healthz", "/-/routes"})

PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
CODES = {
    404: ("not_found", "nothing is served at this path"),
    408: ("request_timeout", "the request did not end in time"),
    429: ("too_many_requests", "too many requests wait already"),
    500: ("internal_error", "the request could not be carried out"),
    503: ("not_ready", "no worker can take the request at the moment"),
}


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
                    return await answer(scope, send, code, detail, message["status"], wait_s)
            if not replaced:
                await send(message)

        try:
            await self._app(scope, seen, checked)
        except Exception:
            # The last stop before the server, whose answer would be plain text.
            logger.exception("the proxy failed", extra={"request_id": request_id_of(scope)})
            if not started:
                code, detail = CODES[500]
                return await answer(scope, send, code, detail)
            raise
        if not started and not gone:
            # The application answers its own errors, so its process is gone.
            await answer(scope, send, "replica_lost", "the worker on this request was lost")


async def answer(
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
    phrase = PHRASES.get(status, "Error")
    retryable = kind.retryable if kind else False
    body = {
        "type": TYPE_PREFIX + code if kind else "about:blank",
        "title": kind.title if kind else phrase,
        "status": status,
        "detail": detail or phrase,
        "code": code or phrase.lower().replace(" ", "_").replace("-", "_"),
        "errors": [],
        "retryable": retryable,
        "request_id": request_id_of(scope),
    }
    encoded = json.dumps(body).encode()
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(encoded)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-request-id": request_id_of(scope),
    }
    if retryable:
        headers["retry-after"] = retry_after or str(RETRY_AFTER_S)
    if close:
        headers["connection"] = "close"
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": encoded})


def request_id_of(scope: Scope) -> str:
    """The request's id, which `CleanHeaders` has seen to."""
    return Headers(scope=scope).get("x-request-id", "")
