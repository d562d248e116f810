"""One method on one picture, and what its result depends on."""

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import metrics
import numpy as np
import torch
from PIL import Image
from quality_measures import MOST_DB, compare
from quality_methods import BALANCED, Method
from quality_pictures import Truth, enlarge, shrink

from nullscale.imaging.noise import noise_of
from nullscale.maths.operators import BicubicDownscale
from nullscale.maths.params import UpscaleParams
from nullscale.maths.rounding import round_consistently
from nullscale.networks.checkpoint import find_checkpoint
from nullscale.samples import draw_samples
from nullscale.scheduling.work import Variant
from sr_engine.engine import SREngine

SEED = 1


@dataclass(frozen=True, slots=True)
class Weights:
    """Fingerprints of a checkpoint: they change when it is trained anew."""

    main: str
    draft: str

    @classmethod
    def of(cls, source: str) -> "Weights":
        """Read those of what `load_model` loads under this name."""
        folder = find_checkpoint(source)
        parts = [path for path in folder.iterdir() if path.name in ("transformer", "vae")]
        return cls(_digest([*parts, folder / "scheduler"]), _digest([folder / "vae_draft"]))


@dataclass(frozen=True, slots=True)
class Bench:
    """An engine and what its pictures depend on."""

    engine: SREngine
    weights: Weights

    def params(self, method: Method, scale: int) -> UpscaleParams:
        """Return a method's parameters, the model's defaults filled in."""
        given = {"seed": SEED, "scale": scale, **method.params}
        return self.engine.model.defaults.override(given)

    def key(self, method: Method, truth: Truth, scale: int) -> dict[str, Any]:
        """Return all that the measures of one picture depend on but the code.

        Devices differ by rounding errors, as numbers of threads do.
        """
        key: dict[str, Any] = {
            "kind": method.kind,
            "scale": scale,
            "picture": [truth.group, truth.name, truth.digest],
        }
        if method.damage is not None:
            key["damage"] = asdict(method.damage)
        if method.estimates:
            key["estimates"] = True
        if method.kind == "ddnm":
            params = self.params(method, scale)
            plain = UpscaleParams()
            key["params"] = {
                f.name: getattr(params, f.name)
                for f in fields(params)
                if getattr(params, f.name) != getattr(plain, f.name)
            }
            key["samples"] = method.samples
            info = self.engine.model.info
            key |= {"dtype": info.dtype, "weights": self.weights.main}
            if params.draft:
                key["draft"] = self.weights.draft
        return key

    def measure(
        self, method: Method, truth: Truth, scale: int
    ) -> tuple[dict[str, float | None], np.ndarray]:
        """Return the measures of one picture, and the picture."""
        small = shrink(truth.pixels, scale)
        if method.damage is not None:
            data, small = method.damage.done_to(small)
            if method.estimates:
                sigma_y = noise_of(data, small)
                method = replace(method, params={**method.params, "sigma_y": sigma_y})
        image, singles = self.make(method, small, scale)
        found = compare(image, truth.pixels, scale)
        if method.estimates:
            found["sigma_y"] = float(method.params["sigma_y"])
        if singles:
            found["best_single_psnr_y"] = max(
                min(metrics.psnr_y(single, truth.pixels, scale), MOST_DB) for single in singles
            )
        return found, image

    def seconds(self, method: Method, truth: Truth, scale: int) -> float:
        """Return how long one picture takes, of one that nothing else is batched with."""
        small = shrink(truth.pixels, scale)
        started = time.perf_counter()
        self.make(method, small, scale)
        return time.perf_counter() - started

    def make(
        self, method: Method, small: np.ndarray, scale: int
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return a method's picture, and those that it is the mean of."""
        if method.kind == "pinv":
            return pseudo_inverse(small, scale), []
        if method.kind != "ddnm":
            return enlarge(small, scale, Image.Resampling[method.kind.upper()]), []
        params, singles = self.params(method, scale), []
        if method.samples == 1:
            return self.engine.upscale(small, params).image, singles
        drawn = draw_samples(
            self.engine,
            small,
            params,
            method.samples,
            on_picture=lambda result: singles.append(result.image),
        )
        return drawn.image, singles

    def picture_path(self, method: Method, truth: Truth, scale: int, folder: Path) -> Path:
        """Return where a picture is kept; other weights or parameters have another place."""
        key = json.dumps(self.key(method, truth, scale), sort_keys=True)
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        return folder / f"{truth.group}-{truth.name}-x{scale}" / f"{method.label}-{digest}.png"

    def warm_up(self) -> None:
        """Do once what only the first picture takes time for."""
        self.make(BALANCED, np.zeros((16, 16, 3), np.uint8), 4)

    def round_trip(self, truths: Iterable[Truth]) -> dict[str, float | None]:
        """Return the mean PSNR, over all channels, of pictures sent through the autoencoders."""
        found: dict[str, float | None] = {"whole": None, "draft": None}
        variants = {"whole": Variant.BASE, "draft": Variant.DRAFT}
        model = self.engine.model
        for name, variant in variants.items():
            if name == "draft" and not model.info.draft:
                continue
            values = []
            for truth in truths:
                pixels = torch.from_numpy(truth.pixels.copy()).permute(2, 0, 1)[None] / 255
                back = model.decode(model.encode(pixels, variant), variant)[0].clamp(0, 1)
                image = 255 * back.permute(1, 2, 0).cpu().numpy()
                values.append(metrics.psnr(image, truth.pixels))
            found[name] = float(np.mean(values))
        return found


def pseudo_inverse(small: np.ndarray, scale: int) -> np.ndarray:
    """Return ``A†y``, rounded so that it gives the input back: what λ = 0 ends in."""
    operator = BicubicDownscale(small.shape[:2], scale)
    y = torch.from_numpy(small.copy()).permute(2, 0, 1).contiguous()
    rounded = round_consistently(operator.pinv(y.float() / 255), y, operator)
    return rounded.image.permute(1, 2, 0).contiguous().numpy()


def _digest(folders: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.glob("*")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
