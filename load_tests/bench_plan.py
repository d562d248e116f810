"""`nullscale plan` against a real cluster of the simulated GPU: is its prediction what comes?

    python load_tests/bench_plan.py

First clients that keep every worker busy, for the pictures a second at most; then requests at
random times (Poisson, open loop) at a share of that, for the response times. The prediction is made
before, from `nullscale.simulation.capacity`, with other random arrivals than those that are sent,
ten loads of them for a steady 95th percentile. The last line is a JSON object:

throughput_error    pictures a second at saturation, predicted over measured, less 1
p95_error           the same of the 95th percentile at that load; p50_error of the median
p95_same_arrivals   the same where the prediction is given the very arrivals that were sent, so that
                    only the model can be wrong
added_s             what a request took besides queue and device, in the median
"""

import argparse
import asyncio
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import measurements
import numpy as np
from arrivals import Kind, Piece, poisson
from closed_loop import Answer, keep_busy
from cluster import configured, deployment_of, running
from open_loop import Record, drive

from nullscale.maths.params import UpscaleParams
from nullscale.simulation.capacity import Prediction, Service, Size, busy_s_each, load_of, predict
from nullscale.simulation.devices import PREFIX, find_device
from nullscale.simulation.traffic import Arrival

STEPS = 8
KINDS = (
    Kind(name="quarter", height_px=128, width_px=128, steps=STEPS, share=50),
    Kind(name="one", height_px=256, width_px=256, steps=STEPS, share=40),
    Kind(name="four", height_px=320, width_px=320, steps=STEPS, share=10),
)
PARAMS = UpscaleParams(num_inference_steps=STEPS)
LOADS = 10


def sizes(kinds: Sequence[Kind]) -> list[Size]:
    """The mix in the words of `nullscale plan`."""
    return [Size(kind.height_px, kind.width_px, kind.scale, kind.share) for kind in kinds]


def drawn(service: Service, rate: float, requests: int, seed: int) -> list[Arrival]:
    """Draw a load for the prediction."""
    return load_of(
        sizes(KINDS), PARAMS, service.device, per_hour=3600 * rate, requests=requests, seed=seed
    )


def models(service: Service) -> dict[Kind, Arrival]:
    """What a request of each kind is to the prediction."""
    return {
        kind: load_of([size], PARAMS, service.device, per_hour=1, requests=1)[0]
        for kind, size in zip(KINDS, sizes(KINDS), strict=True)
    }


def foreseen(loads: Sequence[Sequence[Arrival]], gpus: int, service: Service) -> dict[str, float]:
    """Return the mean prediction over several loads."""
    found = [next(iter(predict(load, [gpus], service))) for load in loads]
    return {
        "p50_s": statistics.mean(_known(p, p.p50_s) for p in found),
        "p95_s": statistics.mean(_known(p, p.p95_s) for p in found),
    }


def full_per_s(answers: Sequence[Answer], service: Service, seconds: float) -> float:
    """Return pictures a second by the work that was done: few are large, and they are the longest.

    From a quarter of the time on, the workers being warm.
    """
    works = {kind: model.work_s for kind, model in models(service).items()}
    mean_s = sum(k.share * works[k] for k in KINDS) / sum(kind.share for kind in KINDS)
    start_s = min(answer.sent_s for answer in answers)
    ended = sorted(
        (a.done_s, works[a.kind]) for a in answers if 0.25 <= (a.done_s - start_s) / seconds <= 1
    )
    done_s = sum(work_s for _, work_s in ended[1:])
    return done_s / mean_s / (ended[-1][0] - ended[0][0])


@dataclass(frozen=True, slots=True)
class Expected:
    """What is foreseen: pictures a second at most, the load to be sent, and its response times."""

    full_per_s: float
    rate: float
    times: dict[str, float]


def expect(service: Service, gpus: int, load: float, requests: int, loads: int = LOADS) -> Expected:
    """Foresee what so many GPUs make of a share of what they can do, of several random loads."""
    full = gpus / busy_s_each(drawn(service, 1.0, requests, seed=0), service)
    given = [drawn(service, load * full, requests, seed) for seed in range(1, loads + 1)]
    return Expected(full, load * full, foreseen(given, gpus, service))


async def measure(
    url: str, gpus: int, service: Service, expected: Expected, *, requests: int, full_s: float
) -> dict[str, Any]:
    """Return predictions, measurements and their quotients less 1."""
    answers = await keep_busy(url, KINDS, service.max_ongoing * gpus + 4, full_s)
    per_s = full_per_s(answers, service, full_s)
    print(f"saturated: {per_s:.2f} pictures a second", flush=True)
    trace = [Piece(expected.rate, 2 * requests / expected.rate)]
    sent = list(poisson(trace, KINDS, seed=99, count=requests))
    records = await drive(url, sent)
    times = latencies(records)
    known = models(service)
    replay = [replace(known[arrival.kind], at_s=arrival.at_s) for arrival in sent]
    replayed = foreseen([replay], gpus, service)
    rounded = {name: round(value, 3) for name, value in expected.times.items()}
    return {
        "predicted": {"per_s": round(expected.full_per_s, 3), **rounded},
        "measured": {"per_s": round(per_s, 3), **times},
        "throughput_error": round(expected.full_per_s / per_s - 1, 4),
        "p50_error": round(expected.times["p50_s"] / times["p50_s"] - 1, 4),
        "p95_error": round(expected.times["p95_s"] / times["p95_s"] - 1, 4),
        "p95_same_arrivals": round(replayed["p95_s"] / times["p95_s"] - 1, 4),
        "added_s": _added(records),
        "requests": len(records),
        "gpus": gpus,
    }


def latencies(records: Sequence[Record]) -> dict[str, float]:
    """Return the percentiles of what was sent, less the first tenth, as the prediction does.

    Raises:
        SystemExit: not all of them were answered with a picture.
    """
    if bad := [record.outcome for record in records if not record.served]:
        raise SystemExit(f"no pictures: {bad[:3]}")
    counted = [record.latency_s for record in records[len(records) // 10 :]]
    p50_s, p95_s = np.percentile(counted, [50, 95])
    return {"p50_s": round(float(p50_s), 3), "p95_s": round(float(p95_s), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, default=4)
    parser.add_argument("--slow", type=float, default=2, help="than the GPU's figures")
    parser.add_argument("--load", type=float, default=0.75, help="share of the saturated rate")
    parser.add_argument("--requests", type=int, default=2200)
    parser.add_argument("--added-ms", type=float, default=80, help="as of `nullscale plan`")
    parser.add_argument("--full-s", type=float, default=40, help="at saturation")
    measurements.add_option(parser)
    args = parser.parse_args()
    name = f"sd3.5-medium-h100?slow={args.slow:g}"
    settings = {"model": PREFIX + name, "limits": {"max_wait_s": 600}}
    config = configured(settings, {"Upscaler": args.gpus, "Ingress": 1})
    upscaler = deployment_of(config, "Upscaler")
    service = Service(
        find_device(name),
        upscaler["user_config"]["max_active"],
        upscaler["max_ongoing_requests"],
        args.added_ms / 1e3,
    )
    expected = expect(service, args.gpus, args.load, args.requests)
    print(f"foreseen: {expected}", flush=True)
    with running(config) as url:
        run = measure(url, args.gpus, service, expected, requests=args.requests, full_s=args.full_s)
        figures = asyncio.run(run)
    figures |= {"load": args.load, "slow": args.slow}
    if args.save:
        measurements.save("bench_plan", figures)
    print(json.dumps(figures), flush=True)


def _added(records: Sequence[Record]) -> float:
    """The median of what neither the queue nor the device took."""
    added_s = [
        r.latency_s - (r.server_ms["queue"] + r.server_ms["upscale"]) / 1e3
        for r in records
        if r.server_ms
    ]
    return round(statistics.median(added_s), 3)


def _known(prediction: Prediction, seconds: float | None) -> float:
    if seconds is None:
        raise SystemExit(f"the queue would grow: {prediction}")
    return seconds


if __name__ == "__main__":
    main()
