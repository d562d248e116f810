"""Measures of the super-resolution literature, on 8-bit sRGB arrays [H, W, 3]."""

import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sewar.full_ref import msssim, vifp
from skimage.metrics import structural_similarity
from ssimulacra2 import compute_ssimulacra2

MS_SSIM_PX = 11 * 2**4
"""Below this side its window of 11 px does not fit into the smallest of its five scales."""
VIF_PX = 48
"""Nor do those of VIFp, of 17 px and less, into its four."""
# Cb and Cr of ITU-R BT.601 in studio range, less their offset, as MATLAB's ``rgb2ycbcr`` has them.
_CHROMA = np.array([[-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]).T / 255


def luma(image: np.ndarray) -> np.ndarray:
    """Return Y of ITU-R BT.601 in studio range, 16 to 235, as MATLAB's ``rgb2ycbcr`` does."""
    return image @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def chroma(image: np.ndarray) -> np.ndarray:
    """Return Cb and Cr [H, W, 2] of ITU-R BT.601, 0 for grey, at most 112 in size."""
    return image @ _CHROMA


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the PSNR in dB of values whose peak is 255; infinite where they are the same."""
    error = float(np.mean((image.astype(np.float64) - truth) ** 2))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def psnr_y(image: np.ndarray, truth: np.ndarray, border_px: int) -> float:
    """Return the PSNR of Y in dB, a border shaved off."""
    return psnr(*(_shave(luma(x), border_px) for x in (image, truth)))


def ssim_y(image: np.ndarray, truth: np.ndarray, border_px: int) -> float:
    """Return the SSIM of Y (Wang et al. 2004: Gaussian window, σ = 1.5), a border shaved off."""
    a, b = (_shave(luma(x), border_px) for x in (image, truth))
    return float(
        structural_similarity(
            a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def ms_ssim_y(image: np.ndarray, truth: np.ndarray) -> float | None:
    """Return MS-SSIM of Y (Wang et al. 2003), 1 for the same; None for a picture too small."""
    if min(truth.shape[:2]) < MS_SSIM_PX:
        return None
    return float(msssim(luma(truth), luma(image), MAX=255))


def vif_y(image: np.ndarray, truth: np.ndarray) -> float | None:
    """Return VIFp of Y (Sheikh & Bovik 2006, in the pixel domain), 1 for the same.

    None for a picture too small.
    """
    if min(truth.shape[:2]) < VIF_PX:
        return None
    return float(vifp(luma(truth), luma(image)))


def ssimulacra2(image: np.ndarray, truth: np.ndarray) -> float:
    """Return SSIMULACRA2: 100 is the same picture, 70 high, 50 medium, 10 very low quality."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("truth.png", "image.png")]
        for path, pixels in zip(paths, (truth, image), strict=True):
            Image.fromarray(pixels).save(path, compress_level=0)
        return float(compute_ssimulacra2(str(paths[0]), str(paths[1])))


def high_frequency_ratio(image: np.ndarray, truth: np.ndarray, scale: float) -> float | None:
    """Return the energy of Y above the input's Nyquist frequency over the truth's.

    None for a truth without.
    """
    found, wanted = (_energy_above(luma(x), scale) for x in (image, truth))
    return found / wanted if wanted > 1e-6 * truth.size else None


def chroma_ratio(image: np.ndarray, truth: np.ndarray, scale: float) -> float | None:
    """Return the energy of Cb and Cr above the input's Nyquist frequency over the truth's.

    Above 1 there is chroma noise; 0 for a picture without colour, None for a truth without.
    """
    found, wanted = (
        sum(_energy_above(plane, scale) for plane in np.moveaxis(chroma(x), 2, 0))
        for x in (image, truth)
    )
    return found / wanted if wanted > 1e-6 * truth.size else None


def saturation(image: np.ndarray) -> float:
    """Return the mean distance from grey in the plane of Cb and Cr, in levels, 0 to 112."""
    return float(np.hypot(*np.moveaxis(chroma(image), 2, 0)).mean())


def clipped_share(image: np.ndarray) -> float:
    """Return the share of samples that are 0 or 255."""
    return float(((image == 0) | (image == 255)).mean())


def high_frequency_deviation(image: np.ndarray, scale: int) -> float:
    """Return the standard deviation of what the picture's own downscale does not hold.

    That is the picture less its bicubic downscale made large again by the same filter, in units of
    the full range: 0 for a flat picture, at most 1/2.
    """
    height, width = image.shape[:2]
    picture = Image.fromarray(image)
    small = picture.resize((width // scale, height // scale), Image.Resampling.BICUBIC)
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    return float((image.astype(np.float64) - smooth).std() / 255)


@functools.cache
def learned() -> Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
    """Return LPIPS and MUSIQ of pyiqa, or nothing where it or its weights cannot be had."""
    try:
        import pyiqa

        return {name: pyiqa.create_metric(name) for name in ("lpips", "musiq")}
    except (ImportError, OSError):
        return {}


def learned_measures(image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return LPIPS (0 for the same) and MUSIQ (0 to 100, without the truth) where they are."""
    a, b = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None] / 255 for x in (image, truth))
    return {name: float(measure(a, b)) for name, measure in learned().items()}


def _energy_above(plane: np.ndarray, scale: float) -> float:
    spectrum = np.abs(np.fft.fft2(plane - plane.mean())) ** 2
    fy, fx = (np.abs(np.fft.fftfreq(n)) for n in spectrum.shape)
    above = np.maximum(fy[:, None], fx) > 0.5 / scale
    return float(spectrum[above].sum()) / plane.size


def _shave(y: np.ndarray, border_px: int) -> np.ndarray:
    return y[border_px : y.shape[0] - border_px, border_px : y.shape[1] - border_px]
