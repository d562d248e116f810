"""A server of one request: drives an ASGI application and keeps what it sends."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope


@dataclass
class Answer:
    """What came back, message by message."""

    messages: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> Headers:
        return Headers(raw=self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])


def scope_of(
    method: str = "POST",
    path: str = "/v1/upscale",
    headers: Iterable[tuple[bytes, bytes]] = (),
    **more: Any,
) -> Scope:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": list(headers),
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
        **more,
    }


async def exchange(
    app: ASGIApp, scope: Scope | None = None, body: Iterable[bytes] = (), *, leave: bool = False
) -> Answer:
    """Send a body chunk by chunk; afterwards the client waits, or leaves."""
    chunks = list(body)
    waiting: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": index + 1 < len(chunks)}
        for index, chunk in enumerate(chunks)
    ] or [{"type": "http.request", "body": b"", "more_body": False}]
    answer = Answer()

    async def receive() -> Message:
        if waiting:
            return waiting.pop(0)
        if leave:
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError("nothing more arrives")

    async def send(message: Message) -> None:
        answer.messages.append(message)

    await app(scope or scope_of(), receive, send)
    return answer
