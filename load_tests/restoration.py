"""Pictures damaged on purpose, and what `nullscale restore` makes of them.

    python load_tests/restoration.py

Draws `docs/images/restoration.jpg` of `examples/coffee.png`: a row a damage, with what was given,
the smooth picture that a restoration starts from, the restoration and the truth. Prints a Markdown
table of PSNR in dB against the truth, over the lost pixels alone where some are; the last line
printed is a JSON object.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import metrics
import numpy as np
import torch
from contact_sheets import EXAMPLE, IMAGES, JPEG_QUALITY, labelled_row, stacked
from PIL import Image, ImageDraw
from tables import markdown
from torch import Tensor

from nullscale.maths.blur import Blurred
from nullscale.maths.degradations import Chain, Degradation, Degraded, Grey
from nullscale.maths.inpainting import Masked
from nullscale.maths.operators import BicubicDownscale
from nullscale.networks.loading import load_model
from sr_engine.engine import SREngine

WIDTH, HEIGHT = 192, 128
SHOWN_PX = 288
BLUR_PX = 1.5


@dataclass(frozen=True, slots=True)
class Damage:
    """What has happened to a picture.

    Attributes:
        lost: of the truth's pixels, which are; None where none is.
    """

    name: str
    degradation: Degradation
    scale: int = 1
    lost: np.ndarray | None = None


def damages() -> list[Damage]:
    """Return one of each kind, and an old photograph: small, grey and scratched."""
    scratched, small = _scratches(WIDTH, HEIGHT), _scratches(WIDTH // 2, HEIGHT // 2)
    return [
        Damage(f"blur of {BLUR_PX} px", Blurred.gaussian(BLUR_PX, None)),
        Damage("lost pixels", Masked(torch.from_numpy(~scratched)), lost=scratched),
        Damage("lost colours", Grey()),
        Damage("all of an old photo", Chain((Grey(), Masked(torch.from_numpy(~small)))), scale=2),
    ]


def restore(engine: SREngine, truth: np.ndarray, damage: Damage) -> dict[str, np.ndarray]:
    """Return what was given, what it starts from and what is made of it, as 8-bit pictures."""
    size = HEIGHT // damage.scale, WIDTH // damage.scale
    operator = Degraded(BicubicDownscale(size, damage.scale), damage.degradation)
    # Seen as a picture of three channels, which a grey one's file has as well.
    seen = operator.A(_planes(truth)).expand(3, *size)
    given = _picture(seen)
    params = engine.model.defaults.override({"scale": damage.scale, "seed": 1})
    result = engine.upscale(given, params, degradation=damage.degradation)
    start = operator.interpolate(damage.degradation.observe(_planes(given)))
    return {"given": given, "start": _picture(start), "restored": result.image}


def quality(damage: Damage, pictures: dict[str, np.ndarray], truth: np.ndarray) -> dict[str, float]:
    """Return the PSNR of each picture of the truth's size, in dB."""
    where = np.full(truth.shape[:2], True) if damage.lost is None else damage.lost
    same = {name: p for name, p in pictures.items() if p.shape == truth.shape}
    return {name: metrics.psnr(picture[where], truth[where]) for name, picture in same.items()}


def _scratches(width: int, height: int) -> np.ndarray:
    """Return a mask [h, w] of two thin scratches and a hole of a tenth of the height."""
    mask = Image.new("1", (width, height))
    draw = ImageDraw.Draw(mask)
    for start, end in (((0.1, 0.0), (0.45, 1.0)), ((0.0, 0.7), (1.0, 0.3))):
        ends = [(round(x * width), round(y * height)) for x, y in (start, end)]
        draw.line(ends, fill=1, width=max(1, height // 64))
    left, top, side = round(0.62 * width), round(0.25 * height), height // 10
    draw.rectangle((left, top, left + side, top + side), fill=1)
    return np.array(mask)


def _planes(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255


def _picture(planes: Tensor) -> np.ndarray:
    levels = (255 * planes).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--out", type=Path, default=IMAGES / "restoration.jpg")
    args = parser.parse_args()
    engine = SREngine(load_model(args.model))
    with Image.open(EXAMPLE) as opened:
        whole = opened.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    truth = np.asarray(whole)
    rows, found = [], {}
    for damage in damages():
        pictures = restore(engine, truth, damage)
        found[damage.name] = quality(damage, pictures, truth)
        shown = {
            damage.name: pictures["given"],
            "what it starts from": pictures["start"],
            "restored": pictures["restored"],
            "truth": truth,
        }
        size = (SHOWN_PX, SHOWN_PX * HEIGHT // WIDTH)
        rows.append(
            labelled_row(
                {
                    k: Image.fromarray(p).resize(size, Image.Resampling.NEAREST)
                    for k, p in shown.items()
                }
            )
        )
    stacked(rows).save(args.out, quality=JPEG_QUALITY)
    heads = ["given", "start", "restored"]
    cells = [
        [name, *(f"{of[head]:.1f}" if head in of else "" for head in heads)]
        for name, of in found.items()
    ]
    print(markdown(["", *heads], cells))
    print(json.dumps({name: {k: round(v, 2) for k, v in of.items()} for name, of in found.items()}))


if __name__ == "__main__":
    main()
