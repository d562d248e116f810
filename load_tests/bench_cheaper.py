"""Cheaper ways between latents and pixels at all steps but the last: quality against time.

    python load_tests/bench_cheaper.py SET5 SET14 --threads 1

Each takes the place of the draft autoencoder in the model's defaults, ×4, on squares from the
pictures' centres. `differential`: pixels of the whole decoder, and of the cheap encoder only the
change that the projection makes, z + E(Πx) − E(x), in which its bias cancels. `half`: the whole
autoencoder at half the resolution, its latents and its change interpolated, since A†(Ax − y) is
smooth. Prints a Markdown table; the last line printed is a JSON object.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import metrics
import numpy as np
import torch
import torch.nn.functional as F
from quality_pictures import load_truths, shrink
from tables import markdown
from torch import Tensor

from nullscale.maths.params import Value
from nullscale.networks.loading import load_model
from nullscale.scheduling.work import Variant
from sr_engine.engine import SREngine
from sr_engine.model import Model

SCALE = 4


class Differential:
    """A model whose draft decodes with the whole network, and encodes with the cheap one."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        """Everything else is the model's."""
        return getattr(self._model, name)

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        """Return the whole network's."""
        return self._model.decode(latents, Variant.BASE if variant is Variant.DRAFT else variant)


class Half(Differential):
    """A model whose draft is the whole network at half the resolution."""

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        """Return pixels of halved latents, enlarged."""
        if variant is not Variant.DRAFT:
            return self._model.decode(latents, variant)
        return _resized(self._model.decode(F.avg_pool2d(latents, 2)), 2.0)

    def encode(self, pixels: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        """Return latents of halved pixels, enlarged."""
        if variant is not Variant.DRAFT:
            return self._model.encode(pixels, variant)
        return _resized(self._model.encode(_resized(pixels, 0.5)), 2.0)


WAYS: Mapping[str, tuple[type[Differential] | None, Mapping[str, Value]]] = {
    "whole": (None, {"draft": False}),
    "whole, `residual`": (None, {"draft": False, "projection": "residual"}),
    "draft (the default)": (None, {}),
    "draft, `residual`": (None, {"projection": "residual"}),
    "differential": (Differential, {"projection": "residual"}),
    "half, `residual`": (Half, {"projection": "residual"}),
}


def _resized(x: Tensor, by: float) -> Tensor:
    return F.interpolate(x, scale_factor=by, mode="bicubic", antialias=True, align_corners=False)


def measure(
    model: Model, params: Mapping[str, Value], truths: Sequence[np.ndarray]
) -> dict[str, float]:
    """Return the means over all pictures."""
    engine = SREngine(model)
    found = []
    for truth in truths:
        small = shrink(truth, SCALE)
        started_s = time.perf_counter()
        given = model.defaults.override({"seed": 1, "scale": SCALE, **params})
        image = engine.upscale(small, given).image
        seconds = time.perf_counter() - started_s
        quality = metrics.psnr_y(image, truth, SCALE), metrics.ssimulacra2(image, truth)
        found.append((*quality, seconds))
    psnr_y, ssimulacra2, _ = np.mean(found, axis=0)
    # A first picture makes what later ones find.
    seconds = float(np.median([each[-1] for each in found]))
    return {"psnr_y": float(psnr_y), "ssimulacra2": float(ssimulacra2), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path, help="folders of pictures")
    parser.add_argument("--crop-px", type=int, default=128)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    truths = [truth.pixels for truth in load_truths(args.images, SCALE, args.crop_px)]
    model = load_model("bundled")
    found = {
        name: measure(model if kind is None else kind(model), params, truths)
        for name, (kind, params) in WAYS.items()
    }
    cells = [
        [name, f"{of['psnr_y']:.2f}", f"{of['ssimulacra2']:.2f}", f"{of['seconds']:.2f}"]
        for name, of in found.items()
    ]
    print(markdown(["", "PSNR-Y", "SSIMULACRA2", "s"], cells))
    print(json.dumps({"pictures": len(truths), "threads": torch.get_num_threads(), "ways": found}))


if __name__ == "__main__":
    main()
