"""Scheduling under load on a simulated GPU: ours against simpler rules and other servers' batching.

    python load_tests/bench_scheduling.py --table table.md

Poisson arrivals of short requests (1 tile, 4 steps) and long ones (16 tiles, 28 steps) at 0.8 of
the device. The last line printed is a JSON object.
"""

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median

import numpy as np
import simulation as sim
from tables import markdown

from nullscale.scheduling.costs import Costs
from nullscale.scheduling.entry import Entry
from nullscale.scheduling.scheduler import Lead, Scheduler, least_work_first
from nullscale.scheduling.work import Kind, Phase, Plan
from nullscale.simulation.traffic import Arrival, Outcome

SHORT, LONG = sim.tiled(1, 4), sim.tiled(16, 28)


@dataclass(frozen=True, slots=True)
class Load:
    """What arrives, and how the engine is set."""

    requests: int = 3000
    load: float = 0.8
    cap: int = 4
    max_active: int = 8
    seed: int = 1


def first_come_first_served(ready: Iterable[Entry], batch: int) -> Entry:
    return min(ready, key=lambda entry: entry.number)


def always_least_work(ready: Iterable[Entry], batch: int) -> Entry:
    return min(ready, key=lambda entry: (entry.rank, entry.number))


def round_robin() -> Lead:
    turns: dict[str, int] = {}

    def lead(ready: Iterable[Entry], batch: int) -> Entry:
        chosen = min(ready, key=lambda entry: turns.get(entry.request_id, -1))
        turns[chosen.request_id] = batch
        return chosen

    return lead


def least_slack(ready: Iterable[Entry], batch: int) -> Entry:
    # The same device serves all, so the time that has passed is the same in everyone's slack.
    return min(ready, key=lambda entry: (entry.deadline_s or 0.0) - entry.work_s)


def p95(outcomes: Iterable[Outcome], *, short: bool) -> float:
    """Return the 95th percentile of the response time over the service time alone."""
    plan = SHORT if short else LONG
    tag = "short" if short else "long"
    chosen = [o.response_s for o in outcomes if o.arrival.tag == tag and o.finished_s]
    return float(np.percentile(chosen, 95)) / sim.DEVICE.plan_s(plan)


def throughput(outcomes: list[Outcome]) -> float:
    """Return seconds of unbatched work done a second."""
    done = sum(sim.DEVICE.plan_s(o.arrival.plan) for o in outcomes)
    return done / max(o.finished_s or 0.0 for o in outcomes)


def overhead_s(queued: int) -> float:
    """Return the CPU seconds of scheduling a tile with so many requests in the queue."""
    costs = Costs(dict.fromkeys(Phase, 4))
    scheduler = Scheduler(16, costs)
    plan: Plan = sim.tiled(4, 4)
    for number in range(queued):
        scheduler.add(str(number), plan)
    tiles, started = 0, time.process_time()
    while tiles < 20_000:
        for request_id in scheduler.admit():
            assert request_id
        batch = scheduler.next_batch()
        costs.observe(
            batch[0].kind, len(batch), sim.DEVICE.batch_s(Kind(*batch[0].kind), len(batch))
        )
        for task in batch:
            tiles += 1
            if scheduler.complete(task) and scheduler.finished(task.request_id):
                scheduler.remove(task.request_id)
    return (time.process_time() - started) / tiles


def compare(load: Load, short_share: float) -> dict[str, dict[str, float]]:
    """Return the 95th percentiles of every rule under the same load."""
    arrivals = sim.poisson(
        load.requests, load.load, short_share, short=SHORT, long=LONG, cap=1, seed=load.seed
    )
    slack = [replace(a, deadline_s=a.at_s + 1e6 * len(a.plan)) for a in arrivals]
    engine = {"cap": load.cap, "max_active": load.max_active}
    runs = {
        "one request at a time": sim.run_one_by_one(arrivals),
        "batches of whole requests": sim.run_request_batches(arrivals, cap=load.cap),
        "first come, first served": sim.run_engine(
            arrivals, lead=first_come_first_served, **engine
        ),
        "round robin": sim.run_engine(arrivals, lead=round_robin(), **engine),
        "least slack": sim.run_engine(slack, lead=least_slack, **engine),
        "least work": sim.run_engine(arrivals, lead=always_least_work, **engine),
        "ours": sim.run_engine(arrivals, lead=least_work_first, **engine),
    }
    found = {}
    for name, outcomes in runs.items():
        finished = list(outcomes)
        found[name] = {"short": p95(finished, short=True), "long": p95(finished, short=False)}
        print(json.dumps({"rule": name, "short_share": short_share, **found[name]}), flush=True)
    return found


def deadlines(load: Load) -> dict[str, float]:
    """Return how admitted requests fare that have deadlines."""
    arrivals = sim.poisson(
        load.requests, load.load, 0.5, short=SHORT, long=LONG, cap=1, seed=load.seed, deadlines=True
    )
    outcomes = list(sim.run_engine(arrivals, cap=load.cap, max_active=load.max_active))
    admitted = [o for o in outcomes if not o.refused]
    missed = [o for o in admitted if o.finished_s is None]
    return {
        "deadline_miss_share": len(missed) / len(admitted),
        "deadline_refused_share": 1 - len(admitted) / len(outcomes),
    }


def saturated(load: Load) -> dict[str, float]:
    """Return the throughput of a full queue over that of request batching."""
    arrivals = sim.poisson(200, 1e9, 0.5, short=SHORT, long=LONG, cap=1, seed=load.seed)
    ours = throughput(list(sim.run_engine(arrivals, cap=load.cap, max_active=load.max_active)))
    return {
        "throughput_vs_request_batching": ours
        / throughput(list(sim.run_request_batches(arrivals, cap=load.cap))),
        "throughput_vs_one_by_one": ours / throughput(list(sim.run_one_by_one(arrivals))),
    }


def estimates(load: Load) -> float:
    """Return the median error of the service time told to a request that then runs alone."""
    rng = np.random.default_rng(load.seed)
    errors = []
    for _ in range(100):
        plan = sim.tiled(int(rng.integers(1, 17)), int(rng.integers(1, 29)))
        alone = [Arrival(0.0, plan)]
        (outcome,) = sim.run_engine(alone, cap=load.cap, max_active=load.max_active)
        assert outcome.estimated_s is not None
        errors.append(abs(outcome.estimated_s / outcome.response_s - 1))
    return median(errors)


def measure(load: Load) -> dict[str, float]:
    """Return every figure of the engine under this load, each against its baseline."""
    return report(load, compare(load, 0.5))


def report(load: Load, half: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the figures, given the comparison at half short requests."""
    ours, naive = half["ours"], half["one request at a time"]
    found = {
        "short_p95_vs_solo": ours["short"],
        "short_p95_vs_naive": naive["short"] / ours["short"],
        "short_p95_vs_request_batching": half["batches of whole requests"]["short"] / ours["short"],
        "long_p95_vs_naive": ours["long"] / naive["long"],
        **saturated(load),
        **deadlines(load),
        "estimate_error_median": estimates(load),
        "microseconds_a_tile_at_10000_queued": 1e6 * overhead_s(10_000),
    }
    return {name: round(value, 4) for name, value in found.items()}


def table(found: dict[float, dict[str, dict[str, float]]]) -> str:
    """Return the comparison as Markdown."""
    shares = list(found)
    heads = [f"{kind}, {share:.0%} short" for share in shares for kind in ("short", "long")]
    rows = []
    for rule in found[shares[0]]:
        figures = (found[s][rule][kind] for s in shares for kind in ("short", "long"))
        rows.append([rule, *(f"{figure:.1f}" for figure in figures)])
    return markdown(["rule", *heads], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for field in fields(Load):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default)
    parser.add_argument("--table", type=Path, help="Markdown file to write the comparison to")
    args = vars(parser.parse_args())
    path = args.pop("table")
    load = Load(**args)
    found = {share: compare(load, share) for share in (0.5, 0.9)}
    if path:
        path.write_text(table(found) + "\n")
    print(json.dumps(report(load, found[0.5])))


if __name__ == "__main__":
    main()
