"""Bodies under way hold no more bytes than the budget, and give all of them back."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fake_service import LIMITS, client, picture, problem, send
from fake_upscaler import FakeUpscaler
from hypothesis import given
from hypothesis import strategies as st

from deployments.body_budget import BodyBudget
from deployments.problems import Problem


@given(st.lists(st.lists(st.integers(0, 40)), max_size=8), st.integers(1, 100))
def test_no_more_is_held_than_there_is(bodies: list[list[int]], most: int) -> None:
    budget = BodyBudget(most)

    def nest(index: int) -> None:
        if index == len(bodies):
            return
        before = budget.held_bytes
        with budget.body() as take:
            for count in bodies[index]:
                room = most - budget.held_bytes
                try:
                    take(count)
                except Problem as err:
                    assert count > room and err.code == "overloaded" and err.close
                else:
                    assert count <= room
                assert 0 <= budget.held_bytes <= most
            nest(index + 1)
        assert budget.held_bytes == before

    nest(0)
    assert budget.held_bytes == 0


def test_an_error_gives_back_what_was_taken() -> None:
    budget = BodyBudget(10)
    with pytest.raises(ValueError), budget.body() as take:
        take(7)
        raise ValueError
    assert budget.held_bytes == 0


async def test_bodies_beyond_the_budget_are_a_503() -> None:
    limits = LIMITS.model_copy(update={"max_bodies_bytes": 30_000})
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        yield picture() + bytes(25_000)
        arrived.set()
        await go_on.wait()
        yield b"\r\n--x--\r\n"

    async with client(FakeUpscaler(), limits=limits) as http:
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        first = asyncio.create_task(http.post("/v1/upscale", content=slow(), headers=form))
        await arrived.wait()
        refused = await send(http, image=picture() + bytes(10_000))
        problem(refused, 503, "overloaded")
        assert refused.headers["connection"] == "close" and refused.headers["retry-after"] == "5"
        go_on.set()
        assert (await first).status_code == 200
        assert (await send(http, image=picture() + bytes(10_000))).status_code == 200
