"""A refusal must arrive: a connection closed on unread bytes is reset, and its answer lost."""

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_S = 10.0


class Linger:
    """Lets a client that still sends read an answer with ``Connection: close`` to its end.

    The answer is sent at once; for at most `LINGER_S` after it, what arrives is thrown away.
    """

    def __init__(self, app: ASGIApp, linger_s: float = LINGER_S) -> None:
        self._app = app
        self._linger_s = linger_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its answer back."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        received = asyncio.Event()
        closing = False

        async def noted() -> Message:
            message = await receive()
            if not message.get("more_body", False):
                received.set()
            return message

        async def throw_away() -> None:
            while not received.is_set():
                await noted()

        async def lingering(message: Message) -> None:
            nonlocal closing
            if message["type"] == "http.response.start":
                headers = Headers(raw=message["headers"])
                # Without a length the end of the answer is the end of the stream.
                closing = (
                    headers.get("connection", "").lower() == "close" and "content-length" in headers
                )
            elif closing and not message.get("more_body", False):
                await send({**message, "more_body": True})
                # Serve may be reading as well: whoever comes to the end ends this.
                reading = asyncio.create_task(throw_away())
                with suppress(TimeoutError):
                    await asyncio.wait_for(received.wait(), self._linger_s)
                reading.cancel()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._app(scope, noted, lingering)
