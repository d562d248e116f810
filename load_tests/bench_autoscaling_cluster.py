"""A burst from 1 to 20× on a Ray cluster of this machine: replicas by work against Serve's own.

    python load_tests/bench_autoscaling_cluster.py --policy ours
    python load_tests/bench_autoscaling_cluster.py --policy serve

Replicas sleep for as long as a GPU would work, a second a picture; their starts are real, and share
this machine's cores. The load is the same for both. The last line printed is a JSON object; the
exit status is 1 where a request was lost.

back_s      from the burst's begin until outstanding work over running replicas is first back under
            the target
over_s      with it over the target
replica_h   of starting, running and stopping replicas
lost        requests without a picture, scaling down included
"""

import argparse
import asyncio
import json
import sys
import time
from typing import Any

import measurements
import numpy as np
from arrivals import Piece, poisson
from cluster import running
from open_loop import drive
from scaled_service import KIND, decisions, scaled, wait_s, watched

RATE = 0.16
"""Pictures a second of the load before and after the burst, each a replica's second."""
TARGET_S = 10.0
OURS = {"target_wait_s": TARGET_S, "shrink_delay_s": 26, "start_s": 10}
SERVES = {
    "target_ongoing_requests": 5,
    "look_back_period_s": 4,
    "upscale_delay_s": 0,
    "downscale_delay_s": 24,
}
"""The best at our cost of `bench_autoscaling.py`; all delays to the scale of this shorter load."""


def measure(policy: str, most: int, seconds: float) -> dict[str, Any]:
    """Run the load against one policy."""
    config = scaled(most, OURS) if policy == "ours" else scaled(most, None, **SERVES)
    pieces = [Piece(RATE, seconds / 2), Piece(20 * RATE, seconds), Piece(RATE, 1.5 * seconds)]
    with running(config) as url, watched() as watch:
        start_s = time.perf_counter()
        records = asyncio.run(drive(url, poisson(pieces, [KIND], seed=1), timeout_s=600))
        made = decisions()
    burst_s = seconds / 2
    waits = wait_s(records, watch, start_s)
    late = [now_s for now_s, wait in waits if now_s >= burst_s and wait > TARGET_S]
    again = (now_s for now_s, wait in waits if late and now_s > late[0] and wait <= TARGET_S)
    numbers = [there for _, _, there in watch.seen]
    served = [record.latency_s for record in records if record.served]
    return {
        "policy": policy,
        "back_s": round(next(again, burst_s) - burst_s, 1),
        "over_s": 0.5 * len(late),
        "replica_h": round(watch.replica_s / 3600, 3),
        "most": max(numbers),
        "at_the_end": numbers[-1],
        "decisions": made,
        "requests": len(records),
        "lost": len(records) - len(served),
        "p95_s": round(float(np.percentile(served, 95)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", choices=["ours", "serve"], default="ours")
    parser.add_argument("--most", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=60, help="of the burst")
    measurements.add_option(parser)
    args = parser.parse_args()
    figures = measure(args.policy, args.most, args.seconds)
    if args.save:
        measurements.save(f"bench_autoscaling_cluster_{args.policy}", figures)
    print(json.dumps(figures), flush=True)
    sys.exit(1 if figures["lost"] else 0)


if __name__ == "__main__":
    main()
