"""What is measured of every picture, and how it is averaged over many."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import metrics
import numpy as np
from quality_pictures import shrink

Measures = Mapping[str, float | None]

MOST_DB = 100.0
"""PSNR of a picture that is the truth, such as a flat one: means have to be numbers."""


@dataclass(frozen=True, slots=True)
class Column:
    """A measure as tables show it."""

    key: str
    head: str
    digits: int


COLUMNS = (
    Column("psnr_y", "PSNR-Y", 2),
    Column("ssim_y", "SSIM", 4),
    Column("ms_ssim_y", "MS-SSIM", 4),
    Column("vif_y", "VIFp", 3),
    Column("ssimulacra2", "SSIMULACRA2", 2),
    Column("lpips", "LPIPS", 3),
    Column("musiq", "MUSIQ", 2),
    Column("high_frequency", "HF", 2),
    Column("chroma_ratio", "chroma", 2),
    Column("consistency_db", "back, dB", 1),
    Column("exact_share", "exact", 4),
    Column("seconds", "s", 2),
)


def compare(image: np.ndarray, truth: np.ndarray, scale: int) -> dict[str, float | None]:
    """Return every measure of one picture but the time it took."""
    back, small = shrink(image, scale), shrink(truth, scale)
    own, wanted = metrics.saturation(image), metrics.saturation(truth)
    return {
        "psnr_y": min(metrics.psnr_y(image, truth, scale), MOST_DB),
        "ssim_y": metrics.ssim_y(image, truth, scale),
        "ms_ssim_y": metrics.ms_ssim_y(image, truth),
        "vif_y": metrics.vif_y(image, truth),
        "ssimulacra2": metrics.ssimulacra2(image, truth),
        **metrics.learned_measures(image, truth),
        "high_frequency": metrics.high_frequency_ratio(image, truth, scale),
        "chroma_ratio": metrics.chroma_ratio(image, truth, scale),
        "consistency_error": float(np.mean((back.astype(float) - small) ** 2)),
        "exact_share": float((back == small).mean()),
        "clipped_share": metrics.clipped_share(image),
        "clipped_off": metrics.clipped_share(image) - metrics.clipped_share(truth),
        # Of a grey picture's colour there is no share: its own is told in levels.
        "saturation_off": own / wanted - 1 if wanted > 0.5 else None,
        "saturation_of_grey": own if wanted <= 0.5 else None,
    }


def mean(found: Sequence[Measures]) -> dict[str, float | None]:
    """Return the means over pictures, each over those that have it; consistency over all samples.

    Its mean error is the pictures' mean squared one, so that those that come back exactly count.
    """
    means: dict[str, float | None] = {}
    for key in dict.fromkeys(key for one in found for key in one):
        values = present(one.get(key) for one in found)
        means[key] = sum(values) / len(values) if values else None
    error = means.pop("consistency_error", None)
    means["consistency_db"] = float(10 * np.log10(255**2 / error)) if error else None
    return means


def present(values: Iterable[float | None]) -> list[float]:
    """Return the values that are there."""
    return [value for value in values if value is not None]
