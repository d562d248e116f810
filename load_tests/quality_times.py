"""Seconds a picture of every method that `docs/quality.md` gives a time of, and the page anew.

    python load_tests/quality_times.py --threads 1 --save

One tile of the bundled model, 128 × 128 px, upscaled ×4 by each method in turn and all of them
several times over; the medians are kept. Measures of quality depend on no machine and may come from
one that is shared; times need one that is quiet. The last line printed is a JSON object.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import measurements
import quality_page
import torch
from quality_methods import TABLES, Method
from quality_pictures import load_truths
from quality_plans import LONG_TABLE_PX, SCALE
from quality_runs import Bench, Weights

from nullscale.networks.loading import load_model
from sr_engine.engine import SREngine

PICTURE = Path(__file__).resolve().parents[1] / "examples" / "coffee.png"
TIMED = ("methods", "defaults", "equal_time")


def timed() -> Iterator[Method]:
    """Yield each method of these tables once."""
    seen = set()
    for table in TIMED:
        for method in TABLES[table]():
            if method.label not in seen:
                seen.add(method.label)
                yield method


def measure(bench: Bench, repeats: int) -> dict[str, float]:
    """Return each method's seconds by its label; equal methods are run once."""
    (truth,) = load_truths([PICTURE], SCALE, LONG_TABLE_PX)
    keys = {method.label: json.dumps(bench.key(method, truth, SCALE)) for method in timed()}
    once = {keys[method.label]: method for method in timed()}
    found: dict[str, list[float]] = {key: [] for key in once}
    for _ in range(repeats):
        for key, method in once.items():
            found[key].append(bench.seconds(method, truth, SCALE))
    return {label: statistics.median(found[key]) for label, key in keys.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    measurements.add_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    engine = SREngine(load_model(args.model, device=args.device, dtype=args.dtype))
    bench = Bench(engine, Weights.of(args.model))
    bench.warm_up()
    info = engine.model.info
    found: dict[str, Any] = {
        "model": info.name,
        "dtype": info.dtype,
        "device": info.device,
        "threads": args.threads,
        "side_px": LONG_TABLE_PX,
        "weights": asdict(bench.weights),
        "seconds": {label: round(s, 4) for label, s in measure(bench, args.repeats).items()},
    }
    if args.save:
        measurements.save(quality_page.TIMES, found)
        quality_page.write()
    print(json.dumps(found, ensure_ascii=False))


if __name__ == "__main__":
    main()
