"""Tiles as short as a picture needs against tiles as long as they may be.

    python load_tests/bench_tiles.py --threads 1

The same square picture both ways in turns, on the bundled model, its whole autoencoder at every
step. Prints a Markdown table, with how much fewer cells the networks see where the model's tiles
are SD3.5's; its last line is a JSON object, by the picture's side in px:

    short_s, long_s     medians
    ratio               long over short
"""

import argparse
import json
import time
from dataclasses import replace
from statistics import median

import numpy as np
import torch
from skimage import data
from tables import markdown

import sr_engine.plan
from nullscale.maths.operators import Canvas
from nullscale.networks.loading import load_model
from nullscale.scheduling.work import Phase
from sr_engine.engine import SREngine
from sr_engine.model import ModelInfo
from sr_engine.plan import tiles_of

SCALE = 4
SIDES_PX = (520, 640, 768, 960)
SHORT, LONG = sr_engine.plan.SIDE_STEPS, 1
"""Steps of a tile's side: a single one leaves the longest."""


def cells(side_px: int, info: ModelInfo, phase: Phase, side_steps: int) -> int:
    """Return the cells of all tiles of a phase, where a side has so many steps."""
    sr_engine.plan.SIDE_STEPS = side_steps
    tiles = tiles_of(phase, Canvas((side_px, side_px), info.multiple_px), info)
    return sum(tile.height * tile.width for tile in tiles)


def seconds(engine: SREngine, image: np.ndarray, steps: int, side_steps: int) -> float:
    """Return how long one picture takes."""
    sr_engine.plan.SIDE_STEPS = side_steps
    params = {"num_inference_steps": steps, "scale": SCALE, "draft": False}
    start_s = time.perf_counter()
    engine.upscale(image, engine.model.defaults.override(params))
    return time.perf_counter() - start_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES_PX, metavar="PX")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    engine = SREngine(load_model(args.model))
    info = engine.model.info
    large = replace(info, native_px=1024, vae_factor=8, multiple_px=16)
    photo, found, rows = data.astronaut(), {}, []
    for side in args.sides:
        image = np.ascontiguousarray(photo[: side // SCALE, : side // SCALE])
        seconds(engine, image, 1, SHORT)
        times: dict[int, list[float]] = {SHORT: [], LONG: []}
        for turn in range(args.rounds):
            for way in (SHORT, LONG) if turn % 2 else (LONG, SHORT):
                times[way].append(seconds(engine, image, args.steps, way))
        short_s, long_s = (median(times[way]) for way in (SHORT, LONG))
        ratio = long_s / short_s
        found[side] = {
            name: round(value, 3)
            for name, value in (("short_s", short_s), ("long_s", long_s), ("ratio", ratio))
        }
        # As many of SD3.5's tiles as of the bundled autoencoder's.
        twice = 2 * side
        fewer = cells(twice, large, Phase.DECODE, LONG) / cells(twice, large, Phase.DECODE, SHORT)
        words = f"{side} px", f"{long_s:.1f}", f"{short_s:.1f}", f"{ratio:.2f}"
        rows.append([*words, f"{twice} px", f"{fewer:.2f}"])
        print(json.dumps({side: found[side]}), flush=True)
    head = ["side", "long, s", "short, s", "ratio", "SD3.5: side", "cells, long over short"]
    print(markdown(head, rows))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
