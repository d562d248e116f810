"""The virtual service: nothing is lost, and it waits as queueing theory says it must."""

import heapq
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nullscale.scheduling.costs import Costs
from nullscale.scheduling.scheduler import Scheduler
from nullscale.scheduling.work import Kind, Phase, Stage
from nullscale.simulation.devices import DEVICES, Device
from nullscale.simulation.fleet import Fleet, run_fleet
from nullscale.simulation.routing import Route, least_work, power_of_two
from nullscale.simulation.traffic import Arrival, FleetState, Report
from nullscale.simulation.virtual_replica import ReplicaSettings

SECOND = Device(8, dict.fromkeys(Phase, 1.0), 0.0)
"""A row of its native tile takes a second, alone or in company."""

TILE = Kind(Phase.DENOISE, 8, 8)
OTHER = Kind(Phase.DECODE, 8, 8)
EXACT = ReplicaSettings(SECOND, jitter=0.0)


def arrival(at_s: float, rows: int = 1, kind: Kind = TILE) -> Arrival:
    return Arrival(at_s, (Stage(kind, rows),), work_s=float(rows))


def poisson(requests: int, rate: float, seed: int) -> list[Arrival]:
    rng, now_s, found = Random(seed), 0.0, []
    for _ in range(requests):
        now_s += rng.expovariate(rate)
        found.append(arrival(now_s))
    return found


def responses(report: Report) -> list[float]:
    """Response times in the order of arrival."""
    return [o.response_s for o in sorted(report.outcomes, key=lambda o: o.arrival.at_s)]


STAGES = st.lists(st.builds(Stage, st.sampled_from([TILE, OTHER]), st.integers(1, 4)), max_size=3)
PIXELS = st.sampled_from([0, 2**25, 2**27])
REQUESTS = st.lists(
    st.tuples(st.floats(0, 20), STAGES, st.floats(0, 9), PIXELS, st.none() | st.floats(0, 40)),
    max_size=25,
)


class Whims:
    """Wants what it was told to, one answer after the other, and at last one replica."""

    def __init__(self, answers: list[int]) -> None:
        self._answers = answers[::-1]
        self.states: list[FleetState] = []

    def __call__(self, state: FleetState) -> int:
        self.states.append(state)
        return self._answers.pop() if self._answers else 1


@settings(max_examples=60, deadline=None)
@given(
    requests=REQUESTS,
    replicas=st.integers(1, 4),
    max_ongoing=st.integers(1, 5),
    max_queued=st.none() | st.integers(0, 6),
    route=st.sampled_from([power_of_two, least_work]),
    wanted=st.none() | st.lists(st.integers(0, 5), max_size=12),
    seed=st.integers(0, 5),
)
def test_all_that_arrives_ends_once_and_work_is_neither_lost_nor_made(
    requests: list[tuple[float, list[Stage], float, int, float | None]],
    replicas: int,
    max_ongoing: int,
    max_queued: int | None,
    route: Route,
    wanted: list[int] | None,
    seed: int,
) -> None:
    arrivals = [
        Arrival(at_s, tuple(stages), "", work_s, pixels, deadline_s)
        for at_s, stages, work_s, pixels, deadline_s in requests
    ]
    whims = None if wanted is None else Whims(wanted)
    fleet = Fleet(
        EXACT,
        replicas=replicas,
        max_ongoing=max_ongoing,
        max_queued=max_queued,
        route=route,
        autoscaler=whims,
        start_s=2.5,
        seed=seed,
    )
    report = run_fleet(arrivals, fleet)
    ended = Counter(id(outcome.arrival) for outcome in report.outcomes)
    assert ended == Counter(id(a) for a in arrivals)
    finished = [o for o in report.outcomes if o.finished_s is not None]
    done_s = sum(SECOND.plan_s(o.arrival.plan) for o in finished)
    dropped_s = sum(SECOND.plan_s(o.arrival.plan) for o in report.outcomes) - done_s
    assert done_s - 1e-6 <= report.busy_s <= done_s + dropped_s + 1e-6
    assert report.busy_s <= report.replica_s + 1e-6
    for outcome in finished:
        # Nobody ends sooner than its stages would one after the other, each in one batch.
        assert outcome.response_s >= len(outcome.arrival.plan) - 1e-9
        assert not outcome.refused
    if whims is None:
        assert report.replica_s == pytest.approx(replicas * report.ended_s)
        return
    for before, after in zip(report.decisions, report.decisions[1:], strict=False):
        assert after.state.running + after.state.starting == before.wanted
        assert after.state.arrived_s >= before.state.arrived_s
    for state in whims.states:
        assert state.outstanding_s >= -1e-9
        assert state.ongoing <= max_ongoing * (state.running + state.draining)


@settings(max_examples=30, deadline=None)
@given(
    requests=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 5)), max_size=30),
    servers=st.integers(1, 4),
)
def test_one_request_a_replica_is_a_queue_with_several_servers(
    requests: list[tuple[float, int]], servers: int
) -> None:
    arrivals = [arrival(at_s, rows) for at_s, rows in requests]
    # Kiefer and Wolfowitz, 1955: whoever comes takes the server that is free first.
    free_s = [0.0] * servers
    expected = []
    for one in sorted(arrivals, key=lambda a: a.at_s):
        ends_s = max(heapq.heappop(free_s), one.at_s) + SECOND.plan_s(one.plan)
        heapq.heappush(free_s, ends_s)
        expected.append(ends_s - one.at_s)
    report = run_fleet(arrivals, Fleet(EXACT, replicas=servers, max_ongoing=1))
    assert sorted(responses(report)) == pytest.approx(sorted(expected))
    more = run_fleet(arrivals, Fleet(EXACT, replicas=servers + 1, max_ongoing=1))
    assert sum(responses(more)) <= sum(expected) + 1e-6


def test_a_replica_waits_as_long_as_pollaczek_and_khinchine_say() -> None:
    load = 0.5
    capped = ReplicaSettings(SECOND, jitter=0.0, limits=dict.fromkeys(Phase, 1))
    report = run_fleet(poisson(5000, load, seed=4), Fleet(capped, max_ongoing=5000))
    waited_s = [response_s - 1 for response_s in responses(report)]
    assert sum(waited_s) / len(waited_s) == pytest.approx(load / (2 * (1 - load)), rel=0.1)


def test_a_fleet_of_one_is_an_engine_in_a_loop() -> None:
    device = DEVICES["sd3.5-medium-h100"]
    kinds = [Kind(phase, 128, side) for phase in Phase for side in (64, 128)]
    rng, now_s, arrivals = Random(2), 0.0, []
    for _ in range(60):
        now_s += rng.expovariate(4)
        stages = tuple(
            Stage(rng.choice(kinds), rng.randint(1, 6)) for _ in range(rng.randint(1, 9))
        )
        arrivals.append(Arrival(now_s, stages))
    replica = ReplicaSettings(device, max_active=4, jitter=0.0, known=frozenset(kinds))

    costs = Costs(replica.limits)
    for kind in kinds:
        for _ in range(40):
            costs.observe(kind, costs.cap(kind), device.batch_s(kind, costs.cap(kind)))
    engine, todo, clock_s, expected = Scheduler(4, costs), arrivals[::-1], 0.0, {}
    while todo or engine.has_work():
        if not engine.has_work():
            clock_s = max(clock_s, todo[-1].at_s)
        while todo and todo[-1].at_s <= clock_s:
            one = todo.pop()
            engine.add(str(arrivals.index(one)), one.plan)
        engine.admit()
        batch = engine.next_batch()
        clock_s += device.batch_s(batch[0].kind, len(batch))
        costs.observe(batch[0].kind, len(batch), device.batch_s(batch[0].kind, len(batch)))
        for task in batch:
            if engine.complete(task) and engine.finished(task.request_id):
                engine.remove(task.request_id)
                expected[int(task.request_id)] = clock_s - arrivals[int(task.request_id)].at_s

    report = run_fleet(arrivals, Fleet(replica, max_ongoing=60))
    assert responses(report) == [expected[number] for number in range(60)]


def test_replicas_are_paid_from_their_start_to_the_end_of_draining() -> None:
    # Two from 1 s on, the second ready at 4 s; from 5 s on one, which the later request outlives.
    wanted = Whims([1, 2, 2, 2, 2])
    fleet = Fleet(EXACT, max_ongoing=1, autoscaler=wanted, start_s=3.0)
    report = run_fleet([arrival(0, 10), arrival(0, 5)], fleet)
    assert sorted(responses(report)) == [9.0, 10.0]
    assert report.replica_s == 10.0 + 8.0
    assert [s.starting for s in wanted.states[:6]] == [0, 0, 1, 1, 0, 0]
    assert [s.draining for s in wanted.states[5:8]] == [0, 1, 1]


def test_a_service_of_nobody_starts_when_asked() -> None:
    fleet = Fleet(EXACT, replicas=0, autoscaler=lambda state: int(state.queued > 0), start_s=7.0)
    report = run_fleet([arrival(0.5)], fleet, until_s=30.0)
    assert responses(report) == [pytest.approx(0.5 + 7 + 1)]
    assert report.ended_s == 30.0
    assert report.replica_s < 10
    with pytest.raises(ValueError, match="no replica"):
        run_fleet([], Fleet(EXACT, replicas=0))


def test_a_full_queue_refuses_at_once() -> None:
    fleet = Fleet(EXACT, max_ongoing=1, max_queued=2)
    report = run_fleet([arrival(0.1 * n) for n in range(5)], fleet)
    refused = [o.arrival.at_s for o in report.outcomes if o.refused]
    assert refused == pytest.approx([0.3, 0.4])


def test_the_least_work_is_found_among_all_and_the_fewest_requests_among_two() -> None:
    # One long request against two short ones: the fifth goes where its route looks.
    given_ = [arrival(0, 50), arrival(0, 1), arrival(0, 1), arrival(0.5, 1)]
    by_work = run_fleet(given_, Fleet(EXACT, replicas=2, route=least_work))
    assert max(o.response_s for o in by_work.outcomes if o.arrival.work_s == 1) < 3.0
