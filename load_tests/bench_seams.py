"""Whether tiling shows: pictures of many tiles against the same pictures in one tile.

    python load_tests/bench_seams.py --picture seams.png

Once with the denoiser's tiles, once with the autoencoder's. The pictures are a little larger than a
tile may be, where tiles are the shortest. The denoiser's may be 120 px here, so that the one tile
has the 128 px that the bundled model was trained for. The last line printed is a JSON object.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

import sr_engine.plan
from nullscale.maths.tiling import Tile
from nullscale.networks.loading import load_model
from nullscale.scheduling.work import Phase
from sr_engine.engine import SREngine
from sr_engine.model import ModelInfo
from sr_engine.plan import canvas_of, tiles_of
from sr_engine.request import UpscaleRequest


@dataclass(frozen=True, slots=True)
class Tiling:
    """Sides of the tiles, in px: of the denoiser's, and the least of the autoencoder's."""

    denoise: int
    autoencoder: int

    def apply(self, engine: SREngine) -> ModelInfo:
        """Make the engine cut its tiles so."""
        sr_engine.plan.VAE_TILE_PX = self.autoencoder
        engine.model.info = replace(engine.model.info, native_px=self.denoise)
        return engine.model.info


@dataclass(frozen=True, slots=True)
class Comparison:
    """One tiling against another on pictures of this side."""

    side_px: int
    one: Tiling
    many: Tiling
    phases: tuple[Phase, ...]


COMPARISONS = {
    "denoiser": Comparison(128, Tiling(128, 512), Tiling(120, 512), (Phase.DENOISE,)),
    "autoencoder": Comparison(
        520, Tiling(128, 520), Tiling(128, 512), (Phase.DECODE, Phase.ENCODE)
    ),
}


def crops(side: int, count: int) -> list[np.ndarray]:
    """Return squares of free photos."""
    photos = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    found = []
    for number in range(count):
        photo = photos[number % len(photos)]
        top, left = ((n - side) * (1 + number // len(photos)) // 4 for n in photo.shape[:2])
        found.append(np.ascontiguousarray(photo[top : top + side, left : left + side]))
    return found


def upscale(engine: SREngine, image: np.ndarray, tiling: Tiling, seed: int) -> np.ndarray:
    """Return the picture [H, W, 3] before rounding, in levels."""
    tiling.apply(engine)
    params = engine.model.defaults.override({"seed": seed})
    return engine.upscale(image, params).unrounded.permute(1, 2, 0).double().numpy() * 255


def tiles(engine: SREngine, image: np.ndarray, comparison: Comparison) -> list[Tile]:
    """Return the tiles of the many, in pixels."""
    info = comparison.many.apply(engine)
    request = UpscaleRequest(request_id="", image=image, params=engine.model.defaults)
    canvas = canvas_of(request, info)
    cells = {tile for phase in comparison.phases for tile in tiles_of(phase, canvas, info)}
    return [tile.scaled(info.vae_factor) for tile in cells]


def steps_at(image: np.ndarray, rows: set[int], columns: set[int]) -> tuple[float, float]:
    """Return the mean absolute step across these rows and columns, and across all others."""
    down, across = np.abs(np.diff(image, axis=0)), np.abs(np.diff(image, axis=1))
    at_row = np.isin(np.arange(1, image.shape[0]), list(rows))
    at_column = np.isin(np.arange(1, image.shape[1]), list(columns))
    at = np.concatenate([down[at_row].ravel(), across[:, at_column].ravel()])
    elsewhere = np.concatenate([down[~at_row].ravel(), across[:, ~at_column].ravel()])
    return float(at.mean()), float(elsewhere.mean())


def measure(
    engine: SREngine, comparison: Comparison, count: int
) -> tuple[dict[str, float], np.ndarray]:
    """Return the figures of one comparison, and its pictures side by side."""
    side = comparison.side_px
    at, elsewhere, means, contrasts, shown = [], [], [], [], []
    for seed, image in enumerate(crops(side // int(engine.model.defaults.scale), count)):
        one = upscale(engine, image, comparison.one, seed)
        many = upscale(engine, image, comparison.many, seed)
        cut = tiles(engine, image, comparison)
        rows = {n for t in cut for n in (t.top, t.top + t.height)} - {0, side}
        columns = {n for t in cut for n in (t.left, t.left + t.width)} - {0, side}
        (many_at, many_elsewhere), (one_at, one_elsewhere) = (
            steps_at(picture, rows, columns) for picture in (many, one)
        )
        at.append(many_at / one_at)
        elsewhere.append(many_elsewhere / one_elsewhere)
        for tile in cut:
            a, b = (tile.cut(torch.from_numpy(p).permute(2, 0, 1)) for p in (many, one))
            means.append(abs(float(a.mean() / b.mean()) - 1))
            contrasts.append(abs(float(a.std() / b.std()) - 1))
        shown.append(np.hstack([one, many, 128 + 8 * (many - one)]))
    report = {
        "tiles": len(cut),
        "tile_px": cut[0].width,
        "step_at_borders_vs_elsewhere": float(np.mean(at) / np.mean(elsewhere)),
        "worst_tile_mean_off": max(means),
        "worst_tile_contrast_off": max(contrasts),
    }
    return {name: round(value, 4) for name, value in report.items()}, np.vstack(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--picture", help="one tile, many tiles, their difference × 8; two files")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    engine = SREngine(load_model(args.model))
    report = {}
    for (name, comparison), count in zip(COMPARISONS.items(), (12, 4), strict=True):
        report[name], shown = measure(engine, comparison, count)
        if args.picture:
            levels = shown.round().clip(0, 255).astype(np.uint8)
            path = Path(args.picture)
            Image.fromarray(levels).save(path.with_stem(f"{path.stem}-{name}"))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
