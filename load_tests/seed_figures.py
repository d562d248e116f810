"""The seed repository's six figures with another model: steps and λ varied, two pictures each.

    python load_tests/seed_figures.py                       # docs/seed.md and its pictures
    python load_tests/seed_figures.py IMAGES --out FOLDER   # the same figures of other pictures

Every picture's central 256 px square is made 64 px small and upscaled by ×4: by the seed
repository's algorithm, and with its projection replaced by `residual`. The last line printed is a
JSON object.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measurements
import metrics
import numpy as np
import seed_page
import torch
from contact_sheets import IMAGES, JPEG_QUALITY, free_photos, labelled_row, stacked
from PIL import Image
from quality_pictures import Truth, enlarge, load_truths, shrink

from nullscale.maths.presets import PRESETS
from nullscale.networks.loading import load_model
from sr_engine.engine import SREngine

SCALE = 4
SIDE_PX = 256
SEED = 1
PROJECTIONS = ("latent", "residual")


@dataclass(frozen=True, slots=True)
class Run:
    """One way to upscale: a projection, steps and λ; all else as in `faithful`."""

    projection: str
    steps: int
    strength: float

    def upscale(self, engine: SREngine, small: np.ndarray) -> np.ndarray:
        params = {
            **PRESETS["faithful"],
            "projection": self.projection,
            "num_inference_steps": self.steps,
            "guidance_strength": self.strength,
            "scale": SCALE,
            "seed": SEED,
        }
        return engine.upscale(small, engine.model.defaults.override(params)).image


@dataclass(frozen=True, slots=True)
class Figure:
    """One of the seed repository's figures: what is varied in it, by the columns' labels."""

    name: str
    columns: Mapping[str, tuple[int, float]]


FIGURES = (
    Figure("steps", {f"{n} step{'s' * (n > 1)}": (n, 1.0) for n in (1, 4, 8, 16)}),
    *(
        Figure(
            f"strength-{steps}",
            {f"λ = {value:g}": (steps, value) for value in (0.1, 0.4, 0.7, 0.8, 0.9, 1.0, 1.2)},
        )
        for steps in (1, 8)
    ),
)
# What λ = 0 is said to give stands in no figure.
UNSHOWN = ((1, 0.0), (8, 0.0))


def make(truth: Truth, engine: SREngine) -> dict[Run, np.ndarray]:
    """Return every picture that the figures show of one, and those that only the text tells of."""
    small = shrink(truth.pixels, SCALE)
    places = {*UNSHOWN, *(place for figure in FIGURES for place in figure.columns.values())}
    runs = [Run(projection, *place) for projection in PROJECTIONS for place in sorted(places)]
    return {run: run.upscale(engine, small) for run in runs}


def measure(truth: Truth, made: Mapping[Run, np.ndarray]) -> dict[str, Any]:
    """Return the measures of one picture's figures."""
    bicubic = enlarge(shrink(truth.pixels, SCALE), SCALE)
    return {
        "name": truth.name,
        "truth": _measures(truth.pixels, truth.pixels),
        "bicubic": _measures(bicubic, truth.pixels),
        "runs": [
            {
                "projection": run.projection,
                "steps": run.steps,
                "strength": run.strength,
                "bicubic_db": round(metrics.psnr(image, bicubic), 2),
                **_measures(image, truth.pixels),
            }
            for run, image in made.items()
        ],
    }


def draw(figure: Figure, truth: Truth, made: Mapping[Run, np.ndarray]) -> Image.Image:
    """Return input, bicubic and what is varied, a row a projection."""
    small = shrink(truth.pixels, SCALE)
    plain = {
        "input": enlarge(small, SCALE, Image.Resampling.NEAREST),
        "bicubic": enlarge(small, SCALE),
    }
    rows = []
    for projection in PROJECTIONS:
        varied = {
            f"{projection}, {label}": made[Run(projection, *place)]
            for label, place in figure.columns.items()
        }
        shown = {label: Image.fromarray(image) for label, image in {**plain, **varied}.items()}
        rows.append(labelled_row(shown))
    return stacked(rows)


def write_all(truths: Sequence[Truth], engine: SREngine, folder: Path) -> dict[str, Any]:
    """Write the pictures and curves, and return the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    info = engine.model.info
    found: dict[str, Any] = {"model": info.name, "dtype": info.dtype, "pictures": []}
    for truth in truths:
        made = make(truth, engine)
        for figure in FIGURES:
            path = folder / f"seed-{truth.name}-{figure.name}.jpg"
            draw(figure, truth, made).save(path, quality=JPEG_QUALITY)
        found["pictures"].append(measure(truth, made))
    seed_page.plot(found, folder / "seed-curves.png")
    return found


def _measures(image: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    measured = {
        "clipped_share": metrics.clipped_share(image),
        "deviation": metrics.high_frequency_deviation(image, SCALE),
        "chroma_ratio": metrics.chroma_ratio(image, truth, SCALE),
        "saturation": metrics.saturation(image),
    }
    return {key: None if value is None else round(value, 5) for key, value in measured.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", type=Path, help="folders or files; else free photos")
    parser.add_argument("--out", type=Path, help="folder for the pictures (docs/images/)")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.images and args.out is None:
        parser.error("pictures of your own need --out")
    if args.threads:
        torch.set_num_threads(args.threads)
    engine = SREngine(load_model(args.model, dtype=args.dtype))
    if args.images:
        truths = load_truths(args.images, SCALE, SIDE_PX)
    else:
        truths = free_photos(SCALE, SIDE_PX)
    found = write_all(truths, engine, args.out or IMAGES)
    if not args.images and args.out is None:
        measurements.save(seed_page.NAME, found)
        seed_page.write()
    print(json.dumps(found, ensure_ascii=False))


if __name__ == "__main__":
    main()
