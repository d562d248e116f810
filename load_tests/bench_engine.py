"""What the engine adds to the model: share of the wall time that is spent inside model calls.

    python load_tests/bench_engine.py

One picture at a time through the bundled model, after a warm-up. The last line printed is a JSON
object; ``efficiency`` is time in model calls over wall time.
"""

import argparse
import json
import time

import numpy as np
import torch
from skimage import data

from sr_engine.engine import SREngine
from sr_engine.loading import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--side-px", type=int, default=96, help="of the input")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    engine = SREngine(load_model(args.model, device=args.device))
    photo = data.astronaut()
    side = args.side_px
    engine.upscale(photo[:side, :side])

    before = dict(engine.runner.seconds)
    started = time.perf_counter()
    for number in range(args.pictures):
        left = number * side % (photo.shape[1] - side + 1)
        engine.upscale(np.ascontiguousarray(photo[:side, left : left + side]))
    wall_s = time.perf_counter() - started
    seconds = {phase.value: s - before[phase] for phase, s in engine.runner.seconds.items()}
    report = {
        "efficiency": round(sum(seconds.values()) / wall_s, 4),
        "pictures": args.pictures,
        "output_px": engine.model.defaults.scale * side,
        "seconds_a_picture": round(wall_s / args.pictures, 3),
        "phase_seconds": {name: round(s, 3) for name, s in seconds.items()},
        "device": engine.model.info.device,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
