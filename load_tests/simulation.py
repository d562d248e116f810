"""A simulated GPU on a virtual clock: the real scheduler, the published times, no tensors.

Batches take what `sr_engine`'s networks would take on the device; thousands of requests run in
seconds. Only the scheduler and its cost model are the product's own.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sr_engine.costs import Costs
from sr_engine.scheduler import Lead, Scheduler, least_work_first
from sr_engine.simulated import DEVICES
from sr_engine.work import Kind, Phase, Plan, Stage

DEVICE = DEVICES["sd3.5-medium-h100"]
NATIVE, batch_s = DEVICE.native, DEVICE.batch_s

JITTER = 0.1
"""Batches take up to this share more or less than their mean."""


def tiled(tiles: int, steps: int) -> Plan:
    """Return the plan of a request of so many native tiles under the projection `pixel`."""
    denoise, decode, encode = (Stage(Kind(p, NATIVE, NATIVE), tiles) for p in Phase)
    return (*(steps - 1) * (denoise, decode, encode), denoise, decode)


def service_s(plan: Plan, cap: int) -> float:
    """Return the seconds of a plan alone on the device, its rows batched up to ``cap``."""
    total = 0.0
    for stage in plan:
        full, rest = divmod(stage.rows, cap)
        total += full * batch_s(stage.kind, cap) + (batch_s(stage.kind, rest) if rest else 0.0)
    return total


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of the load."""

    number: int
    at_s: float
    plan: Plan
    short: bool
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it; ``finished_s`` is None where it was refused or dropped."""

    arrival: Arrival
    finished_s: float | None
    refused: bool = False
    estimated_s: float | None = None

    @property
    def response_s(self) -> float:
        """Seconds from arrival to the end."""
        assert self.finished_s is not None
        return self.finished_s - self.arrival.at_s


def poisson(
    count: int,
    load: float,
    short_share: float,
    *,
    short: Plan,
    long: Plan,
    cap: int,
    seed: int,
    deadlines: bool = False,
) -> list[Arrival]:
    """Draw arrivals whose work is ``load`` of what the device can do.

    With ``deadlines``, each request allows 2 to 20 times its own service time.
    """
    rng = random.Random(seed)
    works = {True: service_s(short, cap), False: service_s(long, cap)}
    mean_s = short_share * works[True] + (1 - short_share) * works[False]
    arrivals, now_s = [], 0.0
    for number in range(count):
        now_s += rng.expovariate(load / mean_s)
        is_short = rng.random() < short_share
        deadline_s = now_s + works[is_short] * rng.uniform(2, 20) if deadlines else None
        plan = short if is_short else long
        arrivals.append(Arrival(number, now_s, plan, is_short, deadline_s))
    return arrivals


def run_engine(
    arrivals: Sequence[Arrival],
    *,
    cap: int,
    max_active: int,
    lead: Lead = least_work_first,
) -> Iterator[Outcome]:
    """Run the load through the product's own scheduler; yield outcomes as they fall."""
    costs = Costs(dict.fromkeys(Phase, cap))
    _warm_up(costs, {stage.kind for a in arrivals for stage in a.plan}, cap)
    scheduler = Scheduler(max_active, costs, lead=lead)
    known: dict[str, tuple[Arrival, float]] = {}
    todo = list(reversed(arrivals))
    rng = random.Random(0)
    now_s = 0.0
    while todo or scheduler.has_work():
        if not scheduler.has_work():
            now_s = max(now_s, todo[-1].at_s)
        while todo and todo[-1].at_s <= now_s:
            arrival = todo.pop()
            request_id = str(arrival.number)
            estimated_s = scheduler.service_s(arrival.plan)
            if arrival.deadline_s is not None:
                ends_s = now_s + scheduler.completion_s(arrival.plan)
                if ends_s > arrival.deadline_s:
                    yield Outcome(arrival, None, refused=True, estimated_s=estimated_s)
                    continue
            known[request_id] = arrival, estimated_s
            scheduler.add(request_id, arrival.plan, deadline_s=arrival.deadline_s)
        for request_id in scheduler.overdue(now_s):
            arrival, estimated_s = known.pop(request_id)
            scheduler.remove(request_id)
            yield Outcome(arrival, None, estimated_s=estimated_s)
        scheduler.admit()
        batch = scheduler.next_batch()
        if not batch:
            continue
        seconds = batch_s(batch[0].kind, len(batch)) * rng.uniform(1 - JITTER, 1 + JITTER)
        costs.observe(batch[0].kind, len(batch), seconds)
        now_s += seconds
        for task in batch:
            if scheduler.complete(task) and scheduler.finished(task.request_id):
                scheduler.remove(task.request_id)
                arrival, estimated_s = known.pop(task.request_id)
                yield Outcome(arrival, now_s, estimated_s=estimated_s)


def run_one_by_one(arrivals: Sequence[Arrival]) -> Iterator[Outcome]:
    """First come, first served, one request after the other, row by row."""
    now_s = 0.0
    for arrival in arrivals:
        now_s = max(now_s, arrival.at_s) + service_s(arrival.plan, 1)
        yield Outcome(arrival, now_s)


def run_request_batches(
    arrivals: Sequence[Arrival], *, cap: int, wait_s: float = 0.01
) -> Iterator[Outcome]:
    """Batch whole requests of one plan, as `@serve.batch` does: a batch under way takes no more.

    The oldest request waits ``wait_s`` for others like it, up to ``cap`` in all.
    """
    waiting: list[Arrival] = []
    todo = list(reversed(arrivals))
    now_s = 0.0
    while todo or waiting:
        if not waiting:
            now_s = max(now_s, todo[-1].at_s)
        leader = waiting[0] if waiting else todo[-1]
        closes_s = max(now_s, leader.at_s + wait_s)
        while todo and todo[-1].at_s <= closes_s:
            waiting.append(todo.pop())
        now_s = closes_s
        batch = [a for a in waiting if a.plan == waiting[0].plan][:cap]
        taken = {a.number for a in batch}
        waiting = [a for a in waiting if a.number not in taken]
        joint = tuple(Stage(stage.kind, stage.rows * len(batch)) for stage in batch[0].plan)
        now_s += service_s(joint, cap)
        for arrival in batch:
            yield Outcome(arrival, now_s)


def _warm_up(costs: Costs, kinds: set[Kind], cap: int) -> None:
    for kind in kinds:
        for _ in range(20):
            rows = costs.cap(kind)
            costs.observe(kind, rows, batch_s(kind, rows))
