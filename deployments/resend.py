"""A request whose ingress replica dies is sent to another; part of what runs in the proxy.

Serve's proxy ends such a request without an answer. Nothing of one has reached the client then, so
that nothing stands against asking again.
"""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.plain_errors import request_id_of

logger = logging.getLogger(__name__)

KEPT_BYTES = 256 * 2**20


class Resend:
    """Keeps requests' bodies until their answers begin, and sends what got none once more.

    Args:
        kept_bytes: of all bodies together; what arrives beyond is sent once only.
    """

    def __init__(self, app: ASGIApp, kept_bytes: int = KEPT_BYTES) -> None:
        self._app = app
        self._free_bytes = kept_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, twice at the most."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        body: list[Message] = []
        started = gone = False
        keeps = True

        def drop() -> None:
            self._free_bytes += sum(len(message["body"]) for message in body)
            body.clear()

        async def kept() -> Message:
            nonlocal gone, keeps
            message = await receive()
            if message["type"] == "http.disconnect":
                gone = True
            elif keeps and not started:
                part = message.get("body", b"")
                keeps = len(part) <= self._free_bytes
                if keeps:
                    self._free_bytes -= len(part)
                    body.append({**message, "body": part})
                else:
                    drop()
            return message

        async def noticed(message: Message) -> None:
            nonlocal started
            started = True
            drop()
            await send(message)

        try:
            await self._app(_copy(scope), kept, noticed)
            if started or gone or not keeps:
                return
            extra = {"request_id": request_id_of(scope)}
            logger.warning("an ingress replica was lost: its request is sent again", extra=extra)
            arrived = iter(tuple(body))

            async def again() -> Message:
                message = next(arrived, None)
                return await kept() if message is None else message

            await self._app(_copy(scope), again, noticed)
        finally:
            drop()


def _copy(scope: Scope) -> Scope:
    """Serve writes its own paths into the scope that it is given."""
    return {**scope, "headers": list(scope["headers"])}
