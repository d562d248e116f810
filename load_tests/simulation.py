"""A simulated GPU on a virtual clock: the real scheduler, the published times, no tensors.

Batches take what the networks would take on the device; thousands of requests run in
seconds. Only the scheduler and its cost model are the product's own.
"""

import random
from collections.abc import Iterator, Sequence

from nullscale.scheduling.scheduler import Lead, least_work_first
from nullscale.scheduling.work import Kind, Phase, Plan, Stage
from nullscale.simulation.devices import DEVICES
from nullscale.simulation.fleet import Fleet, run_fleet
from nullscale.simulation.traffic import Arrival, Outcome
from nullscale.simulation.virtual_replica import ReplicaSettings

DEVICE = DEVICES["sd3.5-medium-h100"]
NATIVE = DEVICE.native

JITTER = 0.1
"""Batches take up to this share more or less than their mean."""


def tiled(tiles: int, steps: int) -> Plan:
    """Return the plan of a request of so many native tiles under the projection `pixel`."""
    denoise, decode, encode = (Stage(Kind(p, NATIVE, NATIVE), tiles) for p in Phase)
    return (*(steps - 1) * (denoise, decode, encode), denoise, decode)


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
    works = {True: DEVICE.plan_s(short, cap), False: DEVICE.plan_s(long, cap)}
    mean_s = short_share * works[True] + (1 - short_share) * works[False]
    arrivals, now_s = [], 0.0
    for _ in range(count):
        now_s += rng.expovariate(load / mean_s)
        is_short = rng.random() < short_share
        deadline_s = now_s + works[is_short] * rng.uniform(2, 20) if deadlines else None
        tag, plan = ("short", short) if is_short else ("long", long)
        arrivals.append(Arrival(now_s, plan, tag, deadline_s=deadline_s))
    return arrivals


def run_engine(
    arrivals: Sequence[Arrival],
    *,
    cap: int,
    max_active: int,
    lead: Lead = least_work_first,
) -> tuple[Outcome, ...]:
    """Run the load through the product's own scheduler on one device; outcomes as they fall."""
    replica = ReplicaSettings(
        DEVICE, max_active=max_active, limits=dict.fromkeys(Phase, cap), lead=lead, jitter=JITTER
    )
    return run_fleet(arrivals, Fleet(replica, max_ongoing=len(arrivals))).outcomes


def run_one_by_one(arrivals: Sequence[Arrival]) -> Iterator[Outcome]:
    """First come, first served, one request after the other, row by row."""
    now_s = 0.0
    for arrival in arrivals:
        now_s = max(now_s, arrival.at_s) + DEVICE.plan_s(arrival.plan, 1)
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
        waiting = [a for a in waiting if not any(a is other for other in batch)]
        joint = tuple(Stage(stage.kind, stage.rows * len(batch)) for stage in batch[0].plan)
        now_s += DEVICE.plan_s(joint, cap)
        for arrival in batch:
            yield Outcome(arrival, now_s)
