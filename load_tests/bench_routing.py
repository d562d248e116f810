"""Which replica takes a request: Serve's two random choices against the least work, simulated.

    python load_tests/bench_routing.py --table table.md

Short requests (1 tile, 4 steps) and long ones (16 tiles, 28 steps) at 0.8 of eight GPUs, on a
virtual clock. The last line is a JSON object: mean and 95th percentile of the response time of the
least-work rule over that of two random choices; below 1, it is better.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import simulation as sim

from nullscale.simulation.fleet import Fleet, run_fleet
from nullscale.simulation.routing import Route, least_work, power_of_two
from nullscale.simulation.traffic import Arrival
from nullscale.simulation.virtual_replica import ReplicaSettings

SHORT, LONG = sim.tiled(1, 4), sim.tiled(16, 28)
ROUTES: dict[str, Route] = {"two random choices": power_of_two, "least work": least_work}
FIGURES = {"mean": np.mean, "p95": lambda values: np.percentile(values, 95)}


def arrivals(requests: int, gpus: int, load: float, short_share: float, seed: int) -> list[Arrival]:
    """Draw a load for so many GPUs; the ingress knows what each request is worth."""
    one = sim.poisson(requests, load * gpus, short_share, short=SHORT, long=LONG, cap=1, seed=seed)
    return [replace(a, work_s=sim.DEVICE.plan_s(a.plan)) for a in one]


def times(load: list[Arrival], gpus: int, route: Route) -> dict[str, float]:
    """Return mean and 95th percentile of the response times, in seconds, of short and long ones."""
    fleet = Fleet(ReplicaSettings(sim.DEVICE), replicas=gpus, route=route)
    outcomes = run_fleet(load, fleet).outcomes
    return {
        f"{tag} {name}": float(figure([o.response_s for o in outcomes if o.arrival.tag == tag]))
        for tag in ("short", "long")
        for name, figure in FIGURES.items()
    }


def compare(
    requests: int, gpus: int, load: float, short_share: float, seeds: int
) -> dict[str, dict[str, float]]:
    """Return each rule's times under the same loads, the mean of several."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ROUTES}
    for seed in range(seeds):
        given = arrivals(requests, gpus, load, short_share, seed)
        for name, route in ROUTES.items():
            found[name].append(times(given, gpus, route))
            print(json.dumps({"rule": name, "short_share": short_share, **found[name][-1]}))
    return {
        name: {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
        for name, runs in found.items()
    }


def table(found: dict[float, dict[str, dict[str, float]]]) -> str:
    """Return the comparison as Markdown."""
    columns = [(share, key) for share, rules in found.items() for key in rules["least work"]]
    heads = [f"{key}, {share:.0%} short" for share, key in columns]
    lines = ["| rule | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for rule in ROUTES:
        cells = [f"{found[share][rule][key]:.2f}" for share, key in columns]
        lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--load", type=float, default=0.8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", type=Path, help="Markdown file to write the comparison to")
    args = parser.parse_args()
    found = {
        share: compare(args.requests, args.gpus, args.load, share, args.seeds)
        for share in (0.5, 0.9)
    }
    if args.table:
        args.table.write_text(table(found) + "\n")
    print(
        json.dumps(
            {
                f"{key}, {share:.0%} short": round(
                    rules["least work"][key] / rules["two random choices"][key], 3
                )
                for share, rules in found.items()
                for key in rules["least work"]
            }
        )
    )


if __name__ == "__main__":
    main()
