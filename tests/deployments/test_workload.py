"""Rates and costs against streams whose answer is known."""

import math
import random

import pytest

from deployments.workload import WINDOWS_S, Arrivals, Workload, present_rate, work_units


class Clock:
    """Time as the test wants it."""

    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def test_units_are_megapixels_times_steps() -> None:
    assert work_units(2_000_000, 8) == 16


class Stream:
    """Pictures of one unit of work each that come evenly, and what is made of them."""

    def __init__(self, age_s: int = 0, a_second: float = 1.0) -> None:
        self.clock = Clock()
        self.arrivals = Arrivals(self.clock)
        self.come(a_second, age_s)

    def come(self, a_second: float, seconds: float, work: float = 1.0) -> None:
        end_s = self.clock.now_s + seconds
        for number in range(round(a_second * seconds)):
            self.clock.now_s = end_s - seconds + number / a_second
            self.arrivals.add(work)
        self.clock.now_s = end_s

    def rate(self) -> float:
        return present_rate(self.arrivals.windows())


OLD_S = 400
"""A process that has filled every window."""


@pytest.mark.parametrize("a_second", [0.5, 4, 20])
def test_a_steady_rate_is_found_and_chance_is_no_change(a_second: float) -> None:
    stream, rng, found = Stream(), random.Random(1), []
    sizes, shares = (0.7, 3.0, 13.0), (0.8, 0.17, 0.03)
    mean = sum(size * share for size, share in zip(sizes, shares, strict=True))
    for second in range(4000):
        stream.clock.now_s += 1
        for _ in range(poisson(rng, a_second)):
            stream.arrivals.add(rng.choices(sizes, shares)[0])
        if second > OLD_S:
            found.append(stream.rate() / (a_second * mean))
    deviation = math.sqrt(sum(s**2 * p for s, p in zip(sizes, shares, strict=True))) / mean
    deviation /= math.sqrt(a_second * WINDOWS_S[-1])
    assert sum(found) / len(found) == pytest.approx(1 - deviation, rel=0.07)
    outside = [rate for rate in found if abs(rate - 1 + deviation) > 3.5 * deviation]
    assert len(outside) < 0.01 * len(found)


@pytest.mark.parametrize("age_s", [0, 20, OLD_S])
def test_a_burst_shows_within_three_seconds(age_s: int) -> None:
    stream = Stream(age_s)
    stream.come(100, 3)
    # Of who has just begun, by the least that is divided by.
    assert stream.rate() > (85 if age_s else 25)


def test_a_smaller_rise_shows_within_ten_seconds() -> None:
    stream = Stream(OLD_S, a_second=1)
    stream.come(4, 10)
    assert 3 < stream.rate() < 4


def test_and_one_of_few_pictures_within_forty() -> None:
    stream = Stream(OLD_S, a_second=0.25)
    stream.come(1, 40)
    assert 0.8 < stream.rate() < 1


@pytest.mark.parametrize("age_s", [60, OLD_S])
def test_where_many_were_expected_the_end_shows_too(age_s: int) -> None:
    stream = Stream(age_s, a_second=10)
    stream.clock.now_s += 3
    assert stream.rate() == 0


def test_where_few_were_it_may_be_chance() -> None:
    stream = Stream(OLD_S, a_second=1)
    stream.clock.now_s += 3
    assert 0.8 < stream.rate() < 1


def test_a_run_of_large_pictures_among_many_is_no_burst() -> None:
    stream = Stream()
    for _ in range(12):
        stream.come(10, 50)
        stream.arrivals.add(20.0)
    before = stream.rate()
    for _ in range(2):
        stream.arrivals.add(20.0)
    stream.clock.now_s += 1
    assert stream.rate() < 1.05 * before


def test_one_picture_alone_is_no_rate() -> None:
    stream = Stream()
    stream.arrivals.add(1000.1)
    for _ in range(200):
        stream.clock.now_s += 1
        assert stream.rate() == 0


def test_beside_many_small_ones_neither() -> None:
    stream = Stream(OLD_S)
    stream.arrivals.add(1000.0)
    stream.clock.now_s += 1
    assert 0.8 < stream.rate() < 1.1


def test_some_at_once_at_the_very_beginning_are_hardly_a_rate() -> None:
    stream = Stream()
    for _ in range(4):
        stream.arrivals.add(13.0)
    stream.clock.now_s += 1
    assert 0 < stream.rate() < 4 * 13 / 10


def test_the_present_second_does_not_count() -> None:
    stream = Stream()
    stream.come(10, 0.5)
    assert stream.rate() == 0
    stream.clock.now_s += 0.5
    assert stream.rate() > 0


def test_what_is_old_is_forgotten() -> None:
    stream = Stream()
    stream.come(1000, 1)
    stream.clock.now_s += WINDOWS_S[-1] - 1
    assert stream.arrivals.windows()[-1].total == 1000
    stream.clock.now_s += 1
    assert [window.total for window in stream.arrivals.windows()] == [0, 0, 0, 0]


def test_what_nobody_asks_about_takes_no_more_memory() -> None:
    stream = Stream(age_s=3 * WINDOWS_S[-1])
    assert len(stream.arrivals._seconds) == WINDOWS_S[-1] + 1
    assert stream.arrivals.windows()[-1].total == WINDOWS_S[-1]


def test_the_cost_of_a_unit_follows_what_pictures_cost() -> None:
    heard: list[float] = []
    load = Workload(Clock(), heard.append)
    load.guess(3.0)
    load.arrive(2.0)
    assert heard == [6.0] and load.unit_s == 3.0
    load.learn(10.0, 5.0)
    load.guess(7.0)
    assert load.unit_s == 0.5, "what was learned counts more than any guess"
    for _ in range(200):
        load.learn(1.0, 2.0)
    assert load.unit_s == pytest.approx(2.0, rel=0.01)
    for nothing in (load.arrive, lambda work: load.learn(work, 1.0), lambda s: load.learn(1.0, s)):
        nothing(0.0)
    assert heard == [6.0] and load.unit_s == pytest.approx(2.0, rel=0.01)


def test_large_pictures_weigh_more() -> None:
    load = Workload(Clock())
    load.learn(100.0, 100.0)
    load.learn(1.0, 3.0)
    assert load.unit_s == pytest.approx(1.02, rel=0.01)


def poisson(rng: random.Random, mean: float) -> int:
    """Draw a number of arrivals within a second."""
    number, passed_s = 0, rng.expovariate(mean)
    while passed_s < 1:
        number, passed_s = number + 1, passed_s + rng.expovariate(mean)
    return number
