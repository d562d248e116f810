"""Batches hold like rows, the least work leads, and nobody is left behind or served twice."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nullscale.scheduling.scheduler import Scheduler
from nullscale.scheduling.work import Kind, Phase, Plan, Stage, TileTask

CAPS = {Phase.DENOISE: 4, Phase.DECODE: 1, Phase.ENCODE: 2}


class FixedCosts:
    """A row costs a second, whatever it is, until ``seconds`` changes."""

    seconds = 1.0

    def cap(self, kind: Kind) -> int:
        return CAPS[kind.phase]

    def row_s(self, kind: Kind) -> float:
        return self.seconds

    def measured(self, kind: Kind) -> bool:
        return True

    def batch_s(self, kind: Kind, rows: int) -> float:
        return float(rows)


def stages(*rows: int, phase: Phase = Phase.DENOISE, side: int = 8) -> Plan:
    return tuple(Stage(Kind(phase, side, side), count) for count in rows)


def scheduler(max_active: int = 8, **plans: Plan) -> Scheduler:
    made = Scheduler(max_active, FixedCosts())
    for request_id, plan in plans.items():
        made.add(request_id, plan)
    return made


def finish(made: Scheduler, batch: list[TileTask]) -> None:
    for task in batch:
        if made.complete(task) and made.finished(task.request_id):
            made.remove(task.request_id)


def names(batch: list[TileTask]) -> str:
    return "".join(task.request_id for task in batch)


def test_later_requests_fill_up_the_leaders_batch() -> None:
    made = scheduler(a=stages(3), b=stages(3))
    made.admit()
    assert names(made.next_batch()) == "aaab"
    assert names(made.next_batch()) == "bb"
    assert made.next_batch() == []


def test_a_batch_never_mixes_kinds() -> None:
    made = scheduler(a=stages(1), b=stages(1, side=4), c=stages(1, phase=Phase.DECODE), d=stages(1))
    made.admit()
    assert [names(made.next_batch()) for _ in range(3)] == ["ad", "b", "c"]


def test_caps_bound_each_phase() -> None:
    made = scheduler(a=stages(3, phase=Phase.ENCODE))
    made.admit()
    assert [len(made.next_batch()) for _ in range(3)] == [2, 1, 0]


def test_a_stage_waits_for_all_rows_of_the_one_before() -> None:
    made = scheduler(a=stages(2, 1))
    made.admit()
    first, second = made.next_batch()
    assert not made.complete(first)
    assert made.next_batch() == []
    assert made.complete(second)
    assert names(made.next_batch()) == "a"


def test_the_least_work_leads_and_every_fourth_time_the_oldest() -> None:
    made = scheduler(l=stages(*[4] * 20), s=stages(*[4] * 4), m=stages(*[4] * 8))
    made.admit()
    leads = ""
    while made.has_work():
        batch = made.next_batch()
        leads += batch[0].request_id
        finish(made, batch)
    assert leads == "ssslsmmlmmmlmmml" + 16 * "l"


def test_priority_halves_the_work_that_counts() -> None:
    made = Scheduler(8, FixedCosts())
    made.add("short", stages(3, side=4))
    made.add("urgent", stages(4), priority=1)
    made.admit()
    assert names(made.next_batch()) == "urgent" * 4


def test_the_queue_is_left_by_least_work_and_every_fourth_time_by_age() -> None:
    plans = {name: stages(rows) for name, rows in zip("edcba", (5, 4, 3, 2, 1), strict=True)}
    made = scheduler(max_active=1, **plans)
    order = ""
    while made.has_work():
        order += "".join(made.admit())
        finish(made, made.next_batch())
    assert order == "abced"


def test_remove_takes_out_waiting_and_active_alike() -> None:
    made = scheduler(max_active=1, a=stages(2))
    assert made.admit() == ["a"]
    made.add("b", stages(1))
    assert made.admit() == []
    assert made.remove("a") and made.remove("b")
    assert not made.remove("a")
    made.add("b", stages(1))
    assert made.admit() == ["b"]
    assert made.admit() == []


def test_the_last_place_is_kept_for_a_shorter_request() -> None:
    made = scheduler(max_active=2, l=stages(9), m=stages(8), s=stages(1))
    assert made.admit() == ["s"]
    made = scheduler(max_active=2, l=stages(9))
    made.admit()
    made.add("m", stages(9))
    assert made.admit() == []
    made.add("s", stages(8))
    assert made.admit() == ["s"]
    assert made.remove("s") and made.remove("l")
    assert made.admit() == ["m"]


def test_what_has_gone_does_not_pile_up() -> None:
    made = scheduler(a=stages(1))
    made.admit()
    for number in range(1000):
        made.add(str(number), stages(9), deadline_s=1e9)
        made.remove(str(number))
    assert len(made._by_work) < 100 and len(made._by_deadline) < 100


def test_costs_that_change_leave_no_debt() -> None:
    costs = FixedCosts()
    made = Scheduler(8, costs)
    made.add("a", stages(8))
    made.admit()
    costs.seconds = 3.0
    for task in made.next_batch():
        made.complete(task)
    made.add("b", stages(3))
    # Four rows at the present three seconds are more than three.
    made.admit()
    assert names(made.next_batch()) == "bbba"


def test_overdue_names_each_request_once() -> None:
    made = Scheduler(1, FixedCosts())
    for request_id, deadline_s in (("a", 5.0), ("b", 3.0), ("gone", 2.0), ("free", None)):
        made.add(request_id, stages(1), deadline_s=deadline_s)
    made.admit()
    made.remove("gone")
    assert made.overdue(4.0) == ["b"]
    assert made.overdue(6.0) == ["a"]
    assert made.overdue(1e9) == []


def test_estimates_count_what_goes_first() -> None:
    made = scheduler(short=stages(2), long=stages(*[4] * 50))
    made.admit()
    assert made.service_s(stages(3, 5)) == 8
    # Two seconds of less work, three of its own, a third of that and one batch of the longer one.
    assert made.completion_s(stages(3)) == pytest.approx(5 + 5 / 3 + 4)
    assert made.completion_s(stages(*[4] * 60)) == 202 + 240


PLANS = st.lists(
    st.builds(
        Stage,
        st.builds(Kind, st.sampled_from(Phase), st.sampled_from([4, 8]), st.just(8)),
        st.integers(1, 6),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(plans=st.lists(PLANS, min_size=1, max_size=8), max_active=st.integers(1, 4))
def test_every_row_runs_once_and_no_longer_one_leads_twice(
    plans: list[list[Stage]], max_active: int
) -> None:
    made = Scheduler(max_active, FixedCosts())
    for number, plan in enumerate(plans):
        made.add(str(number), tuple(plan))
    left = {str(n): sum(stage.rows for stage in plan) for n, plan in enumerate(plans)}
    ran: Counter[str] = Counter()
    active: set[str] = set()
    passed_over = 0
    while made.has_work():
        active |= set(made.admit())
        batch = made.next_batch()
        assert batch and len({task.kind for task in batch}) == 1
        lead = batch[0].request_id
        # Every active request has rows ready, since batches end before the next is formed.
        shortest = min(left[name] for name in active)
        passed_over = passed_over + 1 if left[lead] > shortest else 0
        assert passed_over < 2
        for task in batch:
            ran[task.request_id] += 1
            left[task.request_id] -= 1
            if made.complete(task) and made.finished(task.request_id):
                made.remove(task.request_id)
                active.remove(task.request_id)
    assert ran == {str(n): sum(s.rows for s in plan) for n, plan in enumerate(plans)}


def test_pixels_under_way_are_bounded_and_a_giant_runs_alone() -> None:
    made = Scheduler(8, FixedCosts(), max_active_pixels=10)
    for request_id, pixels in (("a", 4), ("b", 6), ("c", 1)):
        made.add(request_id, stages(1), pixels=pixels)
    made.add("giant", stages(9), pixels=50)
    assert made.admit() == ["a", "b"]
    made.remove("b")
    assert made.admit() == ["c"]
    made.remove("a")
    assert made.admit() == []
    made.remove("c")
    assert made.admit() == ["giant"]


def test_no_longer_request_leads_twice_in_a_row_while_a_shorter_one_is_ready() -> None:
    made = scheduler(l=stages(*[4] * 40))
    led_long = 0
    for batch in range(60):
        if batch % 3 == 0:
            made.add(f"s{batch}", stages(4, 4))
        made.admit()
        ready_short = any(name != "l" for name in made._active)
        tasks = made.next_batch()
        if not tasks:
            break
        led_long = led_long + 1 if tasks[0].request_id == "l" and ready_short else 0
        assert led_long < 2
        finish(made, tasks)


def test_fewer_places_let_those_under_way_end_first() -> None:
    made = scheduler(max_active=3, a=stages(1), b=stages(1), c=stages(1), d=stages(1))
    # The last place is for one of less work than all others.
    assert len(made.admit()) == 2
    made.limit(1, math.inf)
    assert made.admit() == []
    assert len(made.queue()) == 2
    first, second = made.next_batch()
    finish(made, [first])
    assert made.admit() == []
    finish(made, [second])
    assert len(made.admit()) == 1
    made.limit(3, math.inf)
    assert len(made.admit()) == 1
