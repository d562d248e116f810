"""What the exact rounding takes and what it changes, by scale.

    python load_tests/bench_rounding.py IMAGES...

Central crops of every PNG are scaled down by Pillow, upscaled by the model's defaults, and rounded
plainly and exactly. Prints a Markdown table; the last line printed is a JSON object. Of each scale:

    exact_share   of the input's samples that come back from the exact rounding (and the plain one)
    pictures      share of them that come back whole
    time_share    of the exact rounding in the time of the upscale
    moved         levels by which a sample differs from the plain rounding, mean over the samples
    psnr_cost_db  PSNR against the truth, plain less exact: below 0 it is a gain
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from quality_pictures import load_truths
from tables import markdown

from nullscale.maths.operators import BicubicDownscale, output_side
from nullscale.maths.rounding import round_consistently, round_plainly
from nullscale.networks.loading import load_model
from sr_engine.engine import SREngine

SCALES = (1.1, 1.5, 2, 2.7, 3, 4, 8)


def measure(engine: SREngine, truth: np.ndarray, scale: float) -> dict[str, float]:
    """Return every figure of one picture."""
    h, w = (int(side / scale) for side in truth.shape[:2])
    H, W = output_side(h, scale), output_side(w, scale)
    truth_px = Image.fromarray(truth).crop((0, 0, W, H))
    small = np.asarray(truth_px.resize((w, h), Image.Resampling.BICUBIC))
    params = engine.model.defaults.override({"scale": scale, "seed": 1})
    started_s = time.perf_counter()
    x = engine.upscale(small, params).unrounded
    whole_s = time.perf_counter() - started_s
    y, operator = torch.from_numpy(small.copy()).permute(2, 0, 1), BicubicDownscale((h, w), scale)
    started_s = time.perf_counter()
    exact = round_consistently(x, y, operator)
    rounding_s = time.perf_counter() - started_s
    plain = round_plainly(x, y, operator)
    target = torch.from_numpy(np.array(truth_px)).permute(2, 0, 1).double()
    errors = [(r.image.double() - target).square().mean() for r in (plain, exact)]
    return {
        "exact_share": exact.consistency.exact_share,
        "plain_share": plain.consistency.exact_share,
        "pictures": float(exact.consistency.exact),
        "time_share": rounding_s / whole_s,
        "moved": float((exact.image.double() - plain.image.double()).abs().mean()),
        "psnr_cost_db": float(10 * (errors[1] / errors[0]).log10()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path, help="folders of PNG files")
    parser.add_argument("--crop-px", type=int, default=128)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    truths = load_truths(args.images, 1, args.crop_px)
    engine = SREngine(load_model("bundled"))
    found = {}
    for scale in SCALES:
        rows = [measure(engine, truth.pixels, scale) for truth in truths]
        found[f"{scale:g}"] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    digits = {"exact_share": 5, "plain_share": 3, "pictures": 2, "time_share": 3, "moved": 2}
    cells = [
        [f"×{scale}", *(f"{value:.{digits.get(key, 4)}f}" for key, value in means.items())]
        for scale, means in found.items()
    ]
    print(markdown(["scale", *next(iter(found.values()))], cells))
    print(json.dumps({"pictures": len(truths), "scales": found}))


if __name__ == "__main__":
    main()
