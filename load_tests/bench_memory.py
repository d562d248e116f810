"""Memory and time of one picture against its size: bytes a pixel beyond a constant, and linearity.

    python load_tests/bench_memory.py

A small model does the engine's work around it justice: tiles, Π, blending, exact rounding. Each
size runs in a process of its own, on one thread. Memory is the most that the process held
while it worked, less what it held before. The last line printed is a JSON object.
"""

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import torch
from skimage import data, transform
from small_model import SmallModel

from sr_engine.engine import SREngine
from sr_engine.plan import BYTES_A_PIXEL

BLOCK_PX = 125


KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
}
"""For glibc, which otherwise gives whatever is above 32 MB back to the kernel with each free, to be
cleared page by page again: at 16 MP a fifth of the time, and none of ours."""


def resident_bytes(field: str) -> int:
    """Return VmRSS (now) or VmHWM (the most) of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise LookupError(field)


def measure(side_px: int, scale: int, steps: int) -> dict[str, float]:
    """Upscale one picture to ``side_px`` squared."""
    torch.set_num_threads(1)
    engine = SREngine(SmallModel())
    side = side_px // scale
    # The same photo side by side and mirrored: every size has the same content, pixel for pixel.
    photo = transform.resize(data.astronaut(), (BLOCK_PX, BLOCK_PX), anti_aliasing=True)
    photo = (255 * photo).round().astype(np.uint8)
    image = np.pad(photo, ((0, side - BLOCK_PX), (0, side - BLOCK_PX), (0, 0)), "symmetric")
    params = engine.model.defaults.override({"num_inference_steps": steps, "seed": 1})
    # What is built once: kernels, banded factors of no size that follows, the tile's buffers.
    engine.upscale(image[:32, :32], params)
    before = resident_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    started = time.process_time()
    result = engine.upscale(image, params)
    seconds = time.process_time() - started
    assert result.consistency.exact_share > 0.99
    return {
        "megapixels": side_px**2 / 1e6,
        "bytes": resident_bytes("VmHWM") - before,
        "cpu_seconds": seconds,
        "model_seconds": sum(engine.runner.seconds.values()),
    }


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Return slope, intercept and R² of the least-squares line."""
    slope, intercept = np.polyfit(x, y, 1)
    residual = y - (slope * x + intercept)
    return float(slope), float(intercept), float(1 - residual.var() / y.var())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides-px", type=int, nargs="*", default=[500, 1000, 2000, 3000, 4000])
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    os.environ.update(KEPT_MEMORY)
    found = []
    for side_px in args.sides_px:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found.append(pool.apply(measure, (side_px, args.scale, args.steps)))
        print(json.dumps({k: round(v, 3) for k, v in found[-1].items()}), flush=True)
    pixels = np.array([1e6 * f["megapixels"] for f in found])
    slope, intercept, _ = line(pixels, np.array([f["bytes"] for f in found]))
    seconds, _, r_squared = line(pixels, np.array([f["cpu_seconds"] for f in found]))
    report = {
        "bytes_a_pixel": round(slope, 1),
        "stated_bytes_a_pixel": BYTES_A_PIXEL,
        "working_set_mb": round(intercept / 1e6, 1),
        "seconds_a_megapixel": round(1e6 * seconds, 3),
        "time_r_squared": round(r_squared, 4),
        "steps": args.steps,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
