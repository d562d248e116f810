"""Clients that ask again: all are busy until the time is over, and their rate is counted right."""

from collections.abc import Iterator

import aiohttp
import pytest
from arrivals import Kind
from closed_loop import Answer, keep_busy, per_second
from fake_service import application
from fake_upscaler import FakeUpscaler
from serving import serving

SMALL = Kind("small", 16, 24, steps=3, scale=2, share=3)
OTHER = Kind("other", 16, 16, steps=4, scale=2, share=1)


@pytest.fixture
def upscaler() -> FakeUpscaler:
    return FakeUpscaler()


@pytest.fixture
def url(upscaler: FakeUpscaler) -> Iterator[str]:
    with serving(lambda: application(upscaler)) as url:
        yield url


async def test_each_answer_is_a_call_and_tells_its_parts(url: str, upscaler: FakeUpscaler) -> None:
    answers = await keep_busy(url, [SMALL, OTHER], clients=3, seconds=1.0)
    assert len(answers) == len(upscaler.calls) > 3
    assert {answer.kind for answer in answers} == {SMALL, OTHER}
    for answer in answers:
        assert answer.done_s > answer.sent_s
        assert {"decode", "queue", "upscale", "encode"} == answer.server_ms.keys()


async def test_an_answer_that_is_no_picture_ends_it(url: str) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await keep_busy(url, [Kind("too large", 128, 128)], clients=2, seconds=5.0)
    assert caught.group_contains(aiohttp.ClientResponseError)


def test_the_rate_is_that_of_regular_answers_wherever_the_time_ends() -> None:
    for seconds in (10.0, 10.4, 10.9):
        ends = [0.7 + 0.5 * number for number in range(30)]
        answers = [Answer(SMALL, end_s - 0.7, end_s, {}) for end_s in ends]
        assert per_second(answers, seconds) == pytest.approx(2.0)
