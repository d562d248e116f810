"""Measures of the super-resolution literature, on 8-bit sRGB arrays [H, W, 3]."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.metrics import structural_similarity
from ssimulacra2 import compute_ssimulacra2


def luma(image: np.ndarray) -> np.ndarray:
    """Return Y of ITU-R BT.601 in studio range, 16 to 235, as MATLAB's ``rgb2ycbcr`` does."""
    return image @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def psnr_y(image: np.ndarray, truth: np.ndarray, border_px: int) -> float:
    """Return the PSNR of Y in dB, a border shaved off."""
    a, b = (_shave(luma(x), border_px) for x in (image, truth))
    return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


def ssim_y(image: np.ndarray, truth: np.ndarray, border_px: int) -> float:
    """Return the SSIM of Y (Wang et al. 2004: Gaussian window, σ = 1.5), a border shaved off."""
    a, b = (_shave(luma(x), border_px) for x in (image, truth))
    return float(
        structural_similarity(
            a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def ssimulacra2(image: np.ndarray, truth: np.ndarray) -> float:
    """Return SSIMULACRA2: 100 is the same picture, 70 high, 50 medium, 10 very low quality."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("truth.png", "image.png")]
        for path, pixels in zip(paths, (truth, image), strict=True):
            Image.fromarray(pixels).save(path, compress_level=0)
        return float(compute_ssimulacra2(str(paths[0]), str(paths[1])))


def high_frequency_ratio(image: np.ndarray, truth: np.ndarray, scale: float) -> float:
    """Return the energy of Y above the input's Nyquist frequency over the truth's."""
    energies = []
    for pixels in (image, truth):
        spectrum = np.abs(np.fft.fft2(luma(pixels) - luma(pixels).mean())) ** 2
        fy, fx = (np.abs(np.fft.fftfreq(n)) for n in spectrum.shape)
        above = np.maximum(fy[:, None], fx) > 0.5 / scale
        energies.append(spectrum[above].sum())
    return float(energies[0] / energies[1])


def _shave(y: np.ndarray, border_px: int) -> np.ndarray:
    return y[border_px : y.shape[0] - border_px, border_px : y.shape[1] - border_px]
