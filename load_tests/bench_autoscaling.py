"""Replicas by work against Serve's own policy, tuned, on a simulated fleet of GPUs.

    python load_tests/bench_autoscaling.py --save --plot docs/images/autoscaling.png

Every trace is drawn anew for the comparison: Serve's policy is tuned on other draws of the burst
and of the steady load than those it is judged by. Two of its settings are compared: of those that
cost at most a tenth more replica-hours than ours, the one that is over the target for the shortest
time; and whatever it costs, the one that is. Figures are means over the draws: a run of large
pictures in one of them can cost a tenth of the replica-hours. The last line printed is a JSON
object.

back_s          from the burst's begin until the predicted wait is first back under the target
over_s          with the predicted wait over it: outstanding work over running replicas
replica_h       of starting, running and draining replicas
turns           changes of direction in the number wanted
again           replicas asked for when some had been let go, while the burst's load stayed the
                same: of a policy that does not oscillate, none
most            replicas wanted
"""

import argparse
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import dropwhile, islice, pairwise, product
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import measurements
import numpy as np
import simulation as sim
from autoscalers import Bounds, ByWork, ServesOwn
from traces import TRACES, Trace, burst, steady

from deployments.autoscaling import ByWork as Policy
from deployments.sizing import Settings
from nullscale.simulation.devices import Device
from nullscale.simulation.fleet import Fleet, run_fleet
from nullscale.simulation.traffic import Report
from nullscale.simulation.virtual_replica import ReplicaSettings

DEVICE = replace(sim.DEVICE, slow=2.0)
"""Half an H100: batches last twice as long, and a run half as long."""
BOUNDS = Bounds(1, 32)
START_S = 60.0
OURS = Policy().settings
GRID = {
    "target_ongoing_requests": (1, 2, 3, 4, 5, 6),
    "look_back_period_s": (2, 10),
    # Any delay would only add to the time over the target.
    "upscale_delay_s": (0,),
    "downscale_delay_s": (60, 120, 300),
}
SPARE = 1.1
"""Of our replica-hours, what Serve's policy may take where it is to cost as much."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one policy made of one draw of a trace."""

    trace: str
    back_s: float | None
    over_s: float
    replica_h: float
    turns: float
    again: float | None
    most: float
    p95_s: float


def run(trace: Trace, settings: Settings | dict[str, float]) -> Report:
    """Let ours, or Serve's policy with these settings, follow a trace."""
    scaler = (
        ByWork(settings, BOUNDS, trace.arrivals)
        if isinstance(settings, Settings)
        else ServesOwn(BOUNDS, metrics_interval_s=1, **settings)
    )
    at_first = max(1, round(trace.busy(0.0) / OURS.utilisation))
    fleet = Fleet(ReplicaSettings(DEVICE), replicas=at_first, autoscaler=scaler, start_s=START_S)
    return run_fleet(trace.arrivals, fleet, until_s=trace.until_s)


def figures(trace: Trace, report: Report) -> Figures:
    """Sum a run up."""
    wanted = [decision.wanted for decision in report.decisions]
    moves = np.sign(np.diff(wanted))
    moves = moves[moves != 0]
    over = [(s.now_s, wait_s > OURS.target_wait_s) for s, wait_s in _waits(report)]
    back_s = again = None
    if trace.changes_s is not None:
        end_s = trace.changes_s + trace.lasts_s
        new_load = [(now_s, late) for now_s, late in over if trace.changes_s <= now_s < end_s]
        back_s = _back_s(new_load)
        within = [d.wanted for d in report.decisions if trace.changes_s <= d.state.now_s < end_s]
        again = float(_grown_again(within))
    return Figures(
        trace=trace.name,
        back_s=back_s,
        over_s=float(sum(is_over for _, is_over in over)),
        replica_h=report.replica_s / 3600,
        turns=int((moves[1:] != moves[:-1]).sum()),
        again=again,
        most=max(wanted),
        p95_s=float(np.percentile([o.response_s for o in report.outcomes], 95)),
    )


def judged(
    settings: Settings | dict[str, float], make: Callable[[Device, int], Trace], seed: int
) -> Figures:
    """Run one policy over one draw of a trace."""
    with warnings.catch_warnings():
        # Serve's, of a window that is not above the interval.
        warnings.simplefilter("ignore")
        trace = make(DEVICE, seed)
        return figures(trace, run(trace, settings))


def mean(draws: Sequence[Figures]) -> Figures:
    """Return the mean of the figures of one trace's draws."""
    every = [asdict(draw) for draw in draws]
    numbers = {
        key: None if value is None else round(float(np.mean([each[key] for each in every])), 2)
        for key, value in every[0].items()
        if key != "trace"
    }
    return Figures(trace=draws[0].trace, **numbers)


def tuned(pool: Any) -> dict[str, dict[str, float]]:
    """Return the settings of Serve's policy that do best on the tuning traces."""
    candidates = [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]
    jobs = [(each, make, 100) for each in (OURS, *candidates) for make in (burst, steady)]
    runs = pool.starmap(judged, jobs, chunksize=1)
    found = list(zip(runs[::2], runs[1::2], strict=True))
    hours = [sum(each.replica_h for each in every) for every in found]
    over = [sum(each.over_s for each in every) for every in found]
    affordable = [n for n in range(1, len(found)) if hours[n] <= SPARE * hours[0]]
    best = min(affordable or range(1, len(found)), key=lambda n: over[n])
    fastest = min(range(1, len(found)), key=lambda n: (over[n], hours[n]))
    return {
        "Serve's, at our cost": candidates[best - 1],
        "Serve's, at any cost": candidates[fastest - 1],
    }


def plot(path: Path, policies: dict[str, Settings | dict[str, float]], seed: int) -> None:
    """Draw replicas and predicted wait of every policy in the burst."""
    import matplotlib.pyplot as plt

    trace = burst(DEVICE, seed)
    begin_s = trace.changes_s or 0.0
    _, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 6), layout="constrained")
    for name, settings in policies.items():
        report = run(trace, settings)
        times = [state.now_s - begin_s for state, _ in _waits(report)]
        above.step(times, [d.wanted for d in report.decisions], where="post", label=name)
        below.plot(times, [wait_s for _, wait_s in _waits(report)])
    above.set(ylabel="replicas wanted", title="a burst from 1 to 20×, ten minutes long")
    above.legend()
    below.axhline(OURS.target_wait_s, color="grey", linestyle=":")
    below.set(ylabel="predicted wait, s", xlabel="s after the burst's begin", yscale="symlog")
    below.set_ylim(bottom=0)
    plt.savefig(path, dpi=100)


def table(results: dict[str, list[Figures]]) -> str:
    """Return a Markdown table."""
    rows = [
        "| trace | policy | back, s | over target, s | replica-hours | turns | again | most |"
        " p95, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for number in range(len(TRACES)):
        for name, every in results.items():
            f = every[number]
            back, again = _shown(f.back_s), _shown(f.again)
            rows.append(
                f"| {f.trace} | {name} | {back} | {f.over_s:.0f} | {f.replica_h:.2f} |"
                f" {f.turns:.0f} | {again} | {f.most:.0f} | {f.p95_s:.1f} |"
            )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--plot", type=Path)
    measurements.add_option(parser)
    args = parser.parse_args()
    with Pool(args.processes) as pool:
        settings: dict[str, Settings | dict[str, float]] = {"ours": OURS, **tuned(pool)}
        seeds = range(1, args.draws + 1)
        jobs = list(product(settings.values(), TRACES, seeds))
        runs = iter(pool.starmap(judged, jobs, chunksize=1))
    results = {name: [mean(list(islice(runs, args.draws))) for _ in TRACES] for name in settings}
    print(table(results), flush=True)
    if args.plot:
        plot(args.plot, settings, seed=1)
    ours, same, any_cost = (every[TRACES.index(burst)] for every in results.values())
    summary = {
        "burst_back_s": {
            "ours": ours.back_s,
            "same_cost": same.back_s,
            "any_cost": any_cost.back_s,
        },
        "asked_for_again": {
            "ours": ours.again,
            "same_cost": same.again,
            "any_cost": any_cost.again,
        },
        "times_shorter": round((same.back_s or 0) / (ours.back_s or 1), 2),
        "replica_hours_ratio": round(ours.replica_h / same.replica_h, 2),
        "settings": {k: v if isinstance(v, dict) else asdict(v) for k, v in settings.items()},
        "figures": {name: [asdict(f) for f in every] for name, every in results.items()},
    }
    if args.save:
        measurements.save("bench_autoscaling", summary)
    print(json.dumps(summary))


def _back_s(over: Sequence[tuple[float, bool]]) -> float:
    """Return how long it takes from the first time until the wait is first over and under again.

    All of the time if it is not; 0 if it is never over.
    """
    times = iter(over)
    if not any(late for _, late in times):
        return 0.0
    back_s = next((now_s for now_s, late in times if not late), over[-1][0])
    return back_s - over[0][0]


def _grown_again(wanted: Sequence[int]) -> int:
    """Return how many replicas were asked for after the first were let go."""
    changes = dropwhile(lambda change: change >= 0, (b - a for a, b in pairwise(wanted)))
    return sum(change for change in changes if change > 0)


def _shown(number: float | None) -> str:
    return "" if number is None else f"{number:.0f}"


def _waits(report: Report) -> list[tuple[Any, float]]:
    return [(d.state, d.state.outstanding_s / max(1, d.state.running)) for d in report.decisions]


if __name__ == "__main__":
    main()
