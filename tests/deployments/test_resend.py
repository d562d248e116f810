"""What the proxy sends again, and what it does not."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from deployments.resend import Resend

START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"a picture"}


class Replicas:
    """Serve's proxy before replicas of which the first ones die, each after so many messages."""

    def __init__(self, *deaths: int, answers_first: bool = False) -> None:
        self.deaths = list(deaths)
        self.answers_first = answers_first
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"] == "/v1/upscale"
        scope["path"] = "/as/serve/does"
        scope["headers"].append((b"x-serve", b"was here"))
        assert len(scope["headers"]) == 1
        death = self.deaths.pop(0) if self.deaths else None
        self.bodies.append(b"")
        reads, more = 0, True
        if self.answers_first:
            await send(START)
        while more:
            if reads == death:
                return
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            self.bodies[-1] += message.get("body", b"")
            reads, more = reads + 1, message.get("more_body", False)
        if death is None:
            if not self.answers_first:
                await send(START)
            await send(END)


async def exchange(app: Resend, chunks: Sequence[bytes], *, leaves: bool = False) -> list[Message]:
    """Send a body in chunks; return what comes back."""
    last = len(chunks) - 1
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": leaves or number < last}
        for number, chunk in enumerate(chunks)
    ]
    sent = iter([*messages, {"type": "http.disconnect"}])
    answer: list[Message] = []

    async def receive() -> Message:
        return next(sent)

    async def send(message: Message) -> None:
        answer.append(message)

    await app({"type": "http", "path": "/v1/upscale", "headers": []}, receive, send)
    return answer


CHUNKS = st.lists(st.binary(max_size=5), min_size=1, max_size=6)


@settings(max_examples=50, deadline=None)
@given(chunks=CHUNKS, death=st.integers(0, 7))
async def test_the_second_replica_gets_the_whole_request(chunks: list[bytes], death: int) -> None:
    replicas = Replicas(death)
    app = Resend(replicas, kept_bytes=100)
    assert await exchange(app, chunks) == [START, END]
    assert replicas.bodies[1] == b"".join(chunks)
    assert b"".join(chunks).startswith(replicas.bodies[0])
    assert app._free_bytes == 100


async def test_a_request_in_good_health_is_sent_once() -> None:
    replicas = Replicas()
    assert await exchange(Resend(replicas), [b"a", b"b"]) == [START, END]
    assert replicas.bodies == [b"ab"]


@pytest.mark.parametrize(
    ("replicas", "kept_bytes", "leaves", "answer"),
    [
        (Replicas(1, answers_first=True), 100, False, [START]),
        (Replicas(4), 100, True, []),
        (Replicas(2), 3, False, []),
    ],
    ids=["its answer had begun", "the client had left", "there was no room for its body"],
)
async def test_it_is_not_sent_again_where(
    replicas: Replicas, kept_bytes: int, leaves: bool, answer: list[Message]
) -> None:
    app = Resend(replicas, kept_bytes)
    assert await exchange(app, [b"aa", b"bb"], leaves=leaves) == answer
    assert len(replicas.bodies) == 1
    assert app._free_bytes == kept_bytes


async def test_after_two_losses_there_is_no_third_try() -> None:
    replicas = Replicas(1, 1, 1)
    assert await exchange(Resend(replicas), [b"a"]) == []
    assert len(replicas.bodies) == 2
