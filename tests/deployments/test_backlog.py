"""The estimate of what is out, against queues whose answer is known."""

import pytest

from deployments.backlog import Backlog
from deployments.problems import Problem


class Clock:
    """Time as the test wants it."""

    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def busy(replicas: int, jobs: int, job_s: float, clock: Clock, backlog: Backlog) -> None:
    """Keep ``replicas`` workers busy with jobs of two units each, one after another."""
    for _ in range(jobs):
        sent = [backlog.sent(2.0) for _ in range(replicas)]
        for job in sent:
            job.__enter__()
        clock.now_s += job_s
        for job in sent:
            job.__exit__(None, None, None)


@pytest.mark.parametrize("replicas", [1, 4])
def test_the_wait_is_work_over_rate(replicas: int) -> None:
    clock = Clock()
    backlog = Backlog(100.0, clock)
    busy(replicas, 20, 5.0, clock, backlog)
    clock.now_s += 1000  # idle time says nothing of the rate
    out = [backlog.sent(2.0) for _ in range(12)]
    for job in out:
        job.__enter__()
    # Twelve jobs of five seconds on so many workers.
    assert backlog.wait_s() == pytest.approx(12 * 5.0 / replicas, rel=0.05)


def test_a_lost_worker_shows_within_a_minute_or_two() -> None:
    clock = Clock()
    backlog = Backlog(100.0, clock)
    busy(2, 30, 5.0, clock, backlog)
    busy(1, 30, 5.0, clock, backlog)
    with backlog.sent(2.0):
        assert backlog.wait_s() == pytest.approx(5.0, rel=0.1)


def test_it_refuses_what_it_could_not_answer_in_time() -> None:
    clock = Clock()
    backlog = Backlog(20.0, clock)
    sent = [backlog.sent(2.0) for _ in range(100)]
    for job in sent:
        job.__enter__()
    backlog.check()  # nothing has come back: nothing is known
    backlog = Backlog(21.0, clock)
    busy(1, 10, 5.0, clock, backlog)
    sent = [backlog.sent(2.0) for _ in range(5)]
    for job in sent[:4]:
        job.__enter__()
    backlog.check()
    sent[4].__enter__()
    with pytest.raises(Problem) as refused:
        backlog.check()
    assert refused.value.code == "overloaded" and refused.value.close
    assert refused.value.retry_after_s == pytest.approx(4.0, rel=0.1)


def test_what_fails_is_neither_out_nor_done() -> None:
    clock = Clock()
    backlog = Backlog(20.0, clock)
    with pytest.raises(RuntimeError), backlog.sent(2.0):
        clock.now_s += 5
        raise RuntimeError
    assert backlog.wait_s() == 0.0
    with backlog.sent(0.1):
        pass
    assert backlog.wait_s() == 0.0, "no rest of a sum of floats"
