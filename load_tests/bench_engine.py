"""The engine on the bundled model, saturated and one picture at a time, and on a simulated GPU.

    python load_tests/bench_engine.py

``efficiency`` is the share of the wall time inside the networks and Π, ``efficiency_alone`` the
same of one picture at a time, and ``networks_alone`` the networks' part of that; the exact rounding
is in none of them. ``throughput_vs_naive`` compares with a plain loop over the same requests, tile
by tile, in the same run, by the fastest of some turns each. On a CPU all of it runs on one core
unless ``--threads`` asks for more, which shorten the networks' part and leave the rest as it is.
What follows comes from `bench_scheduling.py`. The last line printed is a JSON object.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from unittest.mock import patch

import bench_scheduling
import numpy as np
import torch
from baselines import plain_loop
from skimage import data

from nullscale.maths import correction
from nullscale.maths.operators import BicubicDownscale
from nullscale.maths.rounding import round_consistently
from nullscale.networks.loading import load_model
from sr_engine.engine import SREngine
from sr_engine.events import UpscaleResult
from sr_engine.request import UpscaleRequest


@contextlib.contextmanager
def projections_timed() -> Iterator[list[float]]:
    """Collect the seconds of every projection."""
    spent: list[float] = []

    def timed(function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            started = time.perf_counter()
            result = function(*args, **kwargs)
            spent.append(time.perf_counter() - started)
            return result

        return call

    with patch.object(correction, "project", timed(correction.project)):
        yield spent


def requests(engine: SREngine, count: int, side_px: int) -> list[UpscaleRequest]:
    """Return pictures of three sizes, cut from one photo."""
    photo = data.astronaut()
    made = []
    for number in range(count):
        side = side_px * (2, 3, 4)[number % 3] // 4
        left = number * 37 % (photo.shape[1] - side)
        image = np.ascontiguousarray(photo[left : left + side, left : left + side])
        params = engine.model.defaults.override({"seed": number})
        made.append(UpscaleRequest(request_id=str(number), image=image, params=params))
    return made


def run(engine: SREngine, given: list[UpscaleRequest]) -> tuple[float, float, float]:
    """Return the wall seconds of all requests together, the networks' and those of Π."""
    networks_s = sum(engine.runner.seconds.values())
    with projections_timed() as projections_s:
        started = time.perf_counter()
        for request in given:
            engine.add_request(request)
        done = []
        while engine.has_work():
            done += [e for e in engine.step() if isinstance(e, UpscaleResult)]
        wall_s = time.perf_counter() - started
    assert len(done) == len(given)
    networks_s = sum(engine.runner.seconds.values()) - networks_s
    return wall_s, networks_s, sum(projections_s)


def run_naively(engine: SREngine, given: list[UpscaleRequest]) -> float:
    """Return the wall seconds of a plain loop, rounding included."""
    started = time.perf_counter()
    for request in given:
        picture = plain_loop(request, engine.model)
        y = torch.from_numpy(request.image.copy()).permute(2, 0, 1)
        operator = BicubicDownscale(request.image.shape[:2], request.params.scale)
        round_consistently(picture, y, operator)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--pictures", type=int, default=9)
    parser.add_argument("--side-px", type=int, default=96, help="of the largest input")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--no-simulation", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    engine = SREngine(load_model(args.model, device=args.device))
    given = requests(engine, args.pictures, args.side_px)
    run(engine, given[:3])
    # In turns, and the fastest of each: what else the machine does meets both, and only adds.
    turns = [(run_naively(engine, given), run(engine, given)) for _ in range(args.turns)]
    naive_s = min(naive_s for naive_s, _ in turns)
    wall_s, networks_s, projections_s = min(ours for _, ours in turns)
    alone = [run(engine, [request]) for request in given[:3]]
    alone_s, alone_networks_s, alone_projections_s = (
        sum(part) for part in zip(*alone, strict=True)
    )
    report: dict[str, object] = {
        "efficiency": round((networks_s + projections_s) / wall_s, 4),
        "efficiency_alone": round((alone_networks_s + alone_projections_s) / alone_s, 4),
        "networks_alone": round(alone_networks_s / alone_s, 4),
        "throughput_vs_naive": round(naive_s / wall_s, 4),
        "pictures": len(given),
        "device": engine.model.info.device,
        "threads": torch.get_num_threads(),
    }
    if not args.no_simulation:
        report |= bench_scheduling.measure(bench_scheduling.Load())
    print(json.dumps(report))


if __name__ == "__main__":
    main()
