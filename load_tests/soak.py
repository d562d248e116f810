"""Half an hour of requests of every form: does anything grow?

    python load_tests/soak.py

On a simulated GPU, one worker, two ingress replicas. Requests arrive at random, whatever becomes of
those before. Most are answered; the others are left while they wait, broken off in the middle of
the body, cancelled as jobs with and without a reader, or fetched as jobs. Meanwhile each kind of
the service's processes is asked for its threads, open files and the memory of its own. Slopes are
fitted to the means of windows, the first sixth of the time left out: pools and caches fill, and
ended jobs are kept for a minute. The last line printed is a JSON object; the exit status is 1 where
something is not shown to be flat, or a request failed:

    requests, failed    how many of each form; how many ended in no way that they should
    p95_s               of plain requests, from when they should have been sent, by window
    held                threads, files and memory in MB of each kind of process, by window
    slopes              growth an hour of each: the estimate, the ends of its 95 % interval, the
                        limit, and the verdict: `flat` where the whole interval is below the limit

Limits: of threads and files what it would be if one request in a thousand left one behind; of
memory 5 % an hour; of the p95 half of it an hour, which is how closely noise lets it be known.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import measurements
import numpy as np
from arrivals import Arrival, Kind, Piece, at_their_times, poisson
from clients import Form, Work, connect, fetched, job, served, stream, sync, upload
from cluster import service
from holdings import Sample, sampled
from percentiles import percentile
from slopes import by_window, slope

ARGS = {
    "model": "simulated:sd3.5-medium-h100",
    "max_active": 4,
    "upscale_timeout_s": 600,
    "limits": {"max_wait_s": 600},
    # What ended jobs hold would grow for as long as they are kept.
    "jobs": {"timeout_s": 600, "max_unfinished_a_key": 256, "keep_s": 60, "forget_s": 60},
}
FORMS: Mapping[str, Form] = {
    "served": served,
    "fetched": fetched,
    "sync": sync,
    "job": job,
    "stream": stream,
    "upload": upload,
}
SMALL = {"height_px": 96, "width_px": 96}
MIX = (
    Kind("served", **SMALL, steps=4, share=9),
    Kind("served", **SMALL, steps=12, share=3, image_format="jpeg", output_format="jpeg"),
    Kind("served", **SMALL, steps=8, share=2, image_format="webp", output_format="webp"),
    Kind("fetched", **SMALL, steps=8, share=2),
    # Those that leave would take a second and more.
    Kind("sync", **SMALL, steps=100, share=1),
    Kind("job", **SMALL, steps=100, share=1),
    Kind("stream", **SMALL, steps=100, share=1),
    Kind("upload", **SMALL, steps=100, share=1),
)
STAYS_S = 0.5
WINDOWS = 30
SKIPPED = WINDOWS // 6
LEFT_BEHIND = 1e-3  # threads and files a request
MOST_MEMORY = 0.05  # of it, an hour
MOST_P95 = 0.5  # as closely as noise lets it be known


@dataclass(frozen=True, slots=True)
class End:
    """How a request ended; times from the start, `failure` empty where all went well."""

    form: str
    intended_s: float
    done_s: float
    failure: str


async def load(url: str, rate: float, seconds: float) -> tuple[list[End], list[Sample]]:
    """Send requests for so long and take samples meanwhile."""
    async with connect(url) as http:
        start_s = time.perf_counter()

        async def send(arrival: Arrival) -> End:
            kind, failure = arrival.kind, ""
            work = Work(kind.steps, kind.height_px, kind.image_format, kind.output_format)
            stays_s = STAYS_S * arrival.seed / 2**32
            try:
                await FORMS[kind.name](http, stays_s, work)
            except httpx.HTTPStatusError as err:
                failure = str(err.response.status_code)
            except (httpx.HTTPError, OSError) as err:
                failure = type(err).__name__
            return End(kind.name, arrival.at_s, time.perf_counter() - start_s, failure)

        async with sampled(max(1, seconds / WINDOWS / 6)) as samples:
            ends = await at_their_times(poisson([Piece(rate, seconds)], MIX), send)
    return ends, samples


def figures(ends: Sequence[End], samples: Sequence[Sample], seconds: float) -> dict[str, Any]:
    """Return what grew, and what did not."""
    window_s = seconds / WINDOWS
    plain = [end for end in ends if end.form == "served" and not end.failure]
    times_s = [end.intended_s for end in plain]
    taken_s = [end.done_s - end.intended_s for end in plain]
    p95_s = [percentile(window, 95) for window in by_window(times_s, taken_s, window_s, WINDOWS)]
    held = {
        kind: {name: _means(samples, kind, name, window_s) for name in samples[0].held[kind]}
        for kind in samples[0].held
    }
    left_behind = LEFT_BEHIND * len(ends) * 3600 / seconds
    slopes = {"p95_s": {"all": _slope(p95_s, window_s, MOST_P95 * _level(p95_s))}}
    for kind, series in held.items():
        for name, values in series.items():
            limit = MOST_MEMORY * _level(values) if name == "memory_mb" else left_behind
            slopes.setdefault(name, {})[kind] = _slope(values, window_s, limit)
    return {
        "minutes": round(seconds / 60, 2),
        "requests": dict(Counter(end.form for end in ends).most_common()),
        "failed": dict(Counter(f"{end.form}: {end.failure}" for end in ends if end.failure)),
        "window_s": window_s,
        "p95_s": p95_s,
        "held": held,
        "slopes": slopes,
    }


def misses(found: Mapping[str, Any]) -> list[str]:
    """Say in words what is not shown to be flat, and what failed."""
    return [
        f"{name} of {kind}: {it['verdict']}"
        for name, kinds in found["slopes"].items()
        for kind, it in kinds.items()
        if it["verdict"] != "flat"
    ] + [f"failed: {words}" for words in found["failed"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=3, help="requests a second")
    measurements.add_option(parser)
    args = parser.parse_args()
    seconds = 60 * args.minutes
    with service(ARGS, upscalers=1, ingresses=2) as url:
        found = figures(*asyncio.run(load(url, args.rate, seconds)), seconds)
    if args.save:
        measurements.save("soak", found)
    print(json.dumps(found))
    sys.exit("; ".join(misses(found)) or 0)


def _means(samples: Sequence[Sample], kind: str, name: str, window_s: float) -> list[float | None]:
    times_s = [sample.at_s for sample in samples]
    values = [sample.held[kind][name] for sample in samples]
    return [
        round(float(np.mean(window)), 1) if window else None
        for window in by_window(times_s, values, window_s, WINDOWS)
    ]


def _level(values: Sequence[float | None]) -> float:
    return float(np.mean([value for value in values[SKIPPED:] if value is not None]))


def _slope(values: Sequence[float | None], window_s: float, limit: float) -> dict[str, Any]:
    hours = [(number + 0.5) * window_s / 3600 for number in range(WINDOWS)]
    pairs = list(zip(hours, values, strict=True))[SKIPPED:]
    known = [(hour, value) for hour, value in pairs if value is not None]
    found = slope(*zip(*known, strict=True))
    rounded = {name: round(value, 3) for name, value in asdict(found).items()}
    return {**rounded, "limit": round(limit, 3), "verdict": found.verdict(limit)}


if __name__ == "__main__":
    main()
