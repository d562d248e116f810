"""Shows how the bundled model was trained and what it can do by itself.

    python tools/training_report.py --work W [--truths FOLDER...]

Draws the losses of the stages in W (``--plot``) and pictures that the prior makes of noise alone
(`docs/images/samples.jpg`), and prints, as JSON, the PSNR of the autoencoders' round trip over
whole pictures.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from nullscale.networks.loading import load_model
from nullscale.networks.model import SRModel
from nullscale.scheduling.work import Variant
from sr_engine.engine import SREngine

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
STAGES = ("autoencoder", "prior", "draft")
SIDE_PX, COLUMNS, ROWS = 128, 6, 3
STEPS = 28


def plot_losses(work: Path, path: Path) -> None:
    """Draw each stage's loss against its minutes; the first point of each is far off the scale."""
    stages = [stage for stage in STAGES if (work / f"{stage}.jsonl").exists()]
    figure = Figure(figsize=(11 / 3 * len(stages), 3.2), layout="constrained")
    panels = figure.subplots(1, len(stages), squeeze=False)[0]
    for axes, stage in zip(panels, stages, strict=True):
        lines = (work / f"{stage}.jsonl").read_text().splitlines()
        points = [json.loads(line) for line in lines][1:]
        axes.plot([p["minutes"] for p in points], [p["loss"] for p in points], color="black")
        axes.set(title=f"{stage}, {points[-1]['step']:,} steps", xlabel="minutes", ylabel="loss")
        axes.set_yscale("log")
    figure.savefig(path, dpi=110)


def draw_samples(engine: SREngine, path: Path) -> None:
    """Lay out pictures made of noise alone, without any projection."""
    sheet = Image.new("RGB", (COLUMNS * SIDE_PX, ROWS * SIDE_PX))
    ignored = np.zeros((SIDE_PX // 4, SIDE_PX // 4, 3), np.uint8)
    given = {"projection": "none", "strength": 1.0, "eta": 0.0, "num_inference_steps": STEPS}
    for seed in range(COLUMNS * ROWS):
        params = engine.model.defaults.override({**given, "scale": 4, "seed": seed})
        row, column = divmod(seed, COLUMNS)
        picture = Image.fromarray(engine.upscale(ignored, params).image)
        sheet.paste(picture, (column * SIDE_PX, row * SIDE_PX))
    sheet.save(path, quality=90)


def round_trip_db(model: SRModel, variant: Variant, folder: Path) -> float:
    """Return the mean PSNR of pictures, over all three channels, through the autoencoder."""
    found = []
    for path in sorted(folder.glob("*.png")):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        height, width = (side - side % model.info.vae_factor for side in pixels.shape[:2])
        x = torch.from_numpy(pixels[:height, :width].copy()).permute(2, 0, 1)[None] / 255
        back = model.decode(model.encode(x, variant), variant).clamp(0, 1)
        found.append(float(-10 * (back - x).square().mean().log10()))
    return round(float(np.mean(found)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--plot", type=Path, default=IMAGES / "training.png")
    parser.add_argument("--truths", type=Path, nargs="*", default=[], help="folders of PNG files")
    args = parser.parse_args()
    plot_losses(args.work, args.plot)
    model = load_model("bundled", dtype="float32")
    draw_samples(SREngine(model), IMAGES / "samples.jpg")
    trips = itertools.product(args.truths, (Variant.BASE, Variant.DRAFT))
    print(json.dumps({f"{f.name}, {v}": round_trip_db(model, v, f) for f, v in trips}))


if __name__ == "__main__":
    main()
