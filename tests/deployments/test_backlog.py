"""The estimate of what is out, against queues whose answer is known."""

from collections import deque
from contextlib import ExitStack

import pytest

from deployments.backlog import Backlog
from deployments.problems import Problem


class Clock:
    """Time as the test wants it."""

    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def fill(backlog: Backlog, places: int, work: float = 2.0) -> ExitStack:
    """Send out so many jobs; closing ends them all."""
    jobs = ExitStack()
    for _ in range(places):
        backlog.settle(jobs.enter_context(backlog.place()), work)
    return jobs


def busy(replicas: int, jobs: int, job_s: float, clock: Clock, backlog: Backlog) -> None:
    """Keep ``replicas`` workers busy with jobs of two units each, one more of them waiting."""
    out = deque(fill(backlog, 1) for _ in range(replicas + 1))
    clock.now_s += job_s  # nothing comes back before the first is done
    for _ in range(jobs * replicas):
        out.popleft().close()
        out.append(fill(backlog, 1))
        clock.now_s += job_s / replicas
    while out:
        out.popleft().close()
        clock.now_s += job_s / replicas


@pytest.mark.parametrize("replicas", [1, 4])
def test_the_wait_is_work_over_rate(replicas: int) -> None:
    clock = Clock()
    backlog = Backlog(100.0, clock)
    busy(replicas, 20, 5.0, clock, backlog)
    clock.now_s += 1000  # idle time says nothing of the rate
    with fill(backlog, 12):
        # Twelve jobs of five seconds on so many workers.
        assert backlog.wait_s() == pytest.approx(12 * 5.0 / replicas, rel=0.05)


def test_a_lost_worker_shows_within_a_minute_or_two() -> None:
    clock = Clock()
    backlog = Backlog(100.0, clock)
    busy(2, 30, 5.0, clock, backlog)
    busy(1, 30, 5.0, clock, backlog)
    with fill(backlog, 1):
        assert backlog.wait_s() == pytest.approx(5.0, rel=0.1)


def test_it_refuses_what_it_could_not_answer_in_time() -> None:
    clock = Clock()
    with fill(Backlog(21.0, clock), 100):
        pass  # nothing has come back: nothing is known
    backlog = Backlog(21.0, clock)
    busy(1, 10, 5.0, clock, backlog)
    with fill(backlog, 5):
        with pytest.raises(Problem) as refused, backlog.place():
            pass
        assert refused.value.code == "overloaded" and refused.value.close
        assert refused.value.retry_after_s == pytest.approx(4.0, rel=0.1)


def test_jobs_that_come_one_by_one_tell_nothing_of_how_many_could_be_done() -> None:
    clock = Clock()
    backlog = Backlog(21.0, clock)
    for _ in range(100):
        with fill(backlog, 1):
            clock.now_s += 5
    with fill(backlog, 100):
        assert backlog.wait_s() == 0


def test_a_burst_counts_before_its_bodies_are_read() -> None:
    clock = Clock()
    backlog = Backlog(21.0, clock)
    busy(1, 40, 5.0, clock, backlog)
    taken = 0
    with ExitStack() as unread, pytest.raises(Problem):
        for _ in range(100):
            unread.enter_context(backlog.place())
            taken += 1
    assert taken == 5


def test_bodies_that_drip_in_take_nobodys_room() -> None:
    clock = Clock()
    backlog = Backlog(21.0, clock)
    busy(1, 40, 5.0, clock, backlog)
    with ExitStack() as dripping:
        for _ in range(200):
            dripping.enter_context(backlog.place())
            clock.now_s += 0.5
        clock.now_s += 60
        assert backlog.wait_s() == 0
        # Nor has the time in which there was nothing to do become part of the rate.
        late = dripping.enter_context(backlog.place())
        clock.now_s += 10
        backlog.settle(late, 2.0)
        assert backlog.wait_s() == pytest.approx(5.0, rel=0.1)
    assert backlog.wait_s() == 0.0


def test_what_fails_is_not_done_and_what_others_take_over_is_no_work() -> None:
    clock = Clock()
    backlog = Backlog(20.0, clock)
    with pytest.raises(RuntimeError), fill(backlog, 1):
        clock.now_s += 5
        raise RuntimeError
    assert backlog.wait_s() == 0.0
    busy(1, 10, 5.0, clock, backlog)
    with backlog.place() as place:
        assert backlog.wait_s() > 0
        backlog.settle(place, 0)
        assert backlog.wait_s() == 0
    with fill(backlog, 3, 0.1):
        pass
    assert backlog.wait_s() == 0.0, "no rest of a sum of floats"
