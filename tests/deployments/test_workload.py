"""Rates and costs against streams whose answer is known."""

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


@pytest.mark.parametrize("rate", [0.5, 4.0, 20.0])
def test_a_steady_rate_is_found_and_hardly_overstated(rate: float) -> None:
    clock, rng, found = Clock(), random.Random(1), []
    arrivals = Arrivals(clock)
    until_s, next_s = clock.now_s + 2000, clock.now_s
    while clock.now_s < until_s:
        clock.now_s += rng.expovariate(20.0)
        arrivals.add(rate / 20)
        if clock.now_s > next_s + 100:
            found.append(present_rate(arrivals.rates()))
            next_s += 1
    assert sum(found) / len(found) == pytest.approx(rate, rel=0.1)
    assert max(found) < 1.5 * rate


@pytest.mark.parametrize("before_s", [0, 300])
def test_a_burst_shows_within_three_seconds(before_s: int) -> None:
    clock = Clock()
    arrivals = Arrivals(clock)
    come(arrivals, clock, a_second=1, seconds=before_s)
    come(arrivals, clock, a_second=100, seconds=3)
    assert present_rate(arrivals.rates()) > 0.75 * 100


def test_so_does_its_end() -> None:
    clock = Clock()
    arrivals = Arrivals(clock)
    come(arrivals, clock, a_second=10, seconds=300)
    clock.now_s += 3
    assert present_rate(arrivals.rates()) == 0


def test_three_large_pictures_at_once_are_no_burst() -> None:
    clock = Clock()
    arrivals = Arrivals(clock)
    for second in range(600):
        come(arrivals, clock, a_second=10, seconds=1)
        if second % 50 == 49:
            arrivals.add(20.0)
    before = present_rate(arrivals.rates())
    for _ in range(3):
        arrivals.add(20.0)
    assert present_rate(arrivals.rates()) < 1.05 * before


def test_who_has_just_begun_to_count_finds_the_rate_too() -> None:
    clock = Clock()
    arrivals = Arrivals(clock)
    for second in range(1, 100):
        come(arrivals, clock, a_second=10, seconds=1)
        if second > 10:
            assert present_rate(arrivals.rates()) == pytest.approx(10, rel=0.15)


def test_one_large_picture_is_no_rate() -> None:
    clock = Clock()
    arrivals = Arrivals(clock)
    arrivals.add(1000.0)
    for _ in range(200):
        assert present_rate(arrivals.rates()) == pytest.approx(0, abs=1e-9)
        clock.now_s += 1


def test_what_is_old_is_forgotten() -> None:
    clock = Clock()
    arrivals = Arrivals(clock)
    for _ in range(1000):
        arrivals.add(1.0)
    clock.now_s += WINDOWS_S[-1] + 1
    assert present_rate(arrivals.rates()) == 0.0


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


def come(arrivals: Arrivals, clock: Clock, a_second: int, seconds: int) -> None:
    """Let one unit of work come so often, evenly."""
    for _ in range(a_second * seconds):
        clock.now_s += 1 / a_second
        arrivals.add(1.0)
