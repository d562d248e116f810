"""Pages of other origins may use the service, where they are on the list of the moment."""

from collections.abc import Callable, Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.openapi import EXPOSED_HEADERS

ALLOWED_METHODS = ("GET", "POST", "DELETE")
ALLOWED_HEADERS = ("Authorization", "Idempotency-Key", "Last-Event-ID", "Prefer", "X-Request-Id")


class Cors:
    """Starlette's middleware, without credentials of the browser's own; made anew on a change.

    Args:
        origins: asked at every request; none switches it off.
    """

    def __init__(self, app: ASGIApp, origins: Callable[[], Sequence[str]]) -> None:
        self._app = app
        self._origins = origins
        self._known: Sequence[str] = ()
        self._allowing = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer a page's question whether it may send one."""
        origins = self._origins()
        if origins != self._known:
            self._known = origins
            self._allowing = self._allow(origins) if origins else self._app
        await self._allowing(scope, receive, send)

    def _allow(self, origins: Sequence[str]) -> ASGIApp:
        return CORSMiddleware(
            self._app,
            allow_origins=origins,
            allow_methods=ALLOWED_METHODS,
            allow_headers=ALLOWED_HEADERS,
            expose_headers=EXPOSED_HEADERS,
        )
