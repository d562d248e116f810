"""Coding has threads of its own, no more than CPUs, and what is given up does not start."""

import asyncio
import threading
import time
from contextvars import ContextVar

import numpy as np
import pytest
from fake_upscaler import FakeUpscaler

from deployments import pictures
from deployments.coding import coded, threads
from deployments.dispatch import Dispatcher
from deployments.messages import Order
from deployments.pictures import make_picture
from deployments.problems import Problem
from nullscale.imaging.image_io import SourceImage
from nullscale.maths.params import UpscaleParams


def order(until_s: float) -> Order:
    samples = np.full((4, 4, 3), 9, np.uint8)
    return Order(
        source=SourceImage(samples=samples, alpha=None, exif=None, xmp=None, bit_depth=16),
        params=UpscaleParams(seed=1),
        output_format="png",
        output_quality=None,
        until_s=until_s,
        decode_ms=0.0,
    )


async def test_no_more_run_at_once_than_there_are_threads() -> None:
    lock, running, most = threading.Lock(), 0, 0
    release = threading.Event()

    def work(number: int, *, add: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        release.wait(10)
        with lock:
            running -= 1
        return number + add

    tasks = [asyncio.create_task(coded(work, number, add=1)) for number in range(8)]
    while running < threads():
        await asyncio.sleep(0.01)
    # The loop's own threads are free meanwhile.
    assert await asyncio.to_thread(lambda: 5) == 5
    release.set()
    assert await asyncio.gather(*tasks) == list(range(1, 9))
    assert most == threads()


async def test_what_is_given_up_before_its_turn_does_not_start() -> None:
    release, started = threading.Event(), []
    blocking = [asyncio.create_task(coded(release.wait, 10)) for _ in range(threads())]
    late = asyncio.create_task(coded(started.append, 1))
    await asyncio.sleep(0.01)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    release.set()
    await asyncio.gather(*blocking)
    await coded(int)
    assert not started


async def test_errors_and_context_are_the_callers() -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("here")
    assert await coded(variable.get) == "here"
    with pytest.raises(ValueError, match="abc"):
        await coded(int, "abc")


@pytest.mark.parametrize(
    ("told", "expected"), [("1", 1), ("0", None), ("", None), ("x", None), ("9999", None)]
)
def test_threads_are_what_the_process_may_use(
    told: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    cpus = threads()
    assert cpus >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert threads() == (expected or cpus)


async def test_coding_past_the_deadline_is_a_504(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def slow(*_: object, pin: bool) -> None:
        release.wait(10)

    monkeypatch.setattr(pictures, "add_alpha", slow)
    dispatcher = Dispatcher(FakeUpscaler(), 30, running=lambda: 1)
    try:
        with pytest.raises(Problem) as raised:
            await make_picture(order(time.time() + 0.2), dispatcher, "1")
    finally:
        release.set()
    assert raised.value.code == "deadline_exceeded" and raised.value.retry_after_s


async def test_a_picture_tells_the_depth_of_its_file() -> None:
    picture = await make_picture(
        order(time.time() + 30), Dispatcher(FakeUpscaler(), 30, running=lambda: 1), "1"
    )
    assert picture.input_bit_depth == 16
