"""Every operator as a matrix and its inverse, by other people's code: Pillow, scipy, numpy."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from gaussian import Array
from gaussian_sampling import Case, case_of
from PIL import Image
from scipy import ndimage

from nullscale.maths.blur import LOST, Blurred
from nullscale.maths.degradations import Chain, Degradation, Degraded, Grey
from nullscale.maths.inpainting import Masked
from nullscale.maths.operators import AveragePooling, BicubicDownscale, LinearOperator

SMALL = (3, 4)
KNOWN = np.array([[1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 1, 1]], dtype=bool)
COLOURS = 3


def _case(operator: LinearOperator, downscale: Array, degradation: Array | None = None) -> Case:
    """Build the case of ``K D`` and its inverse ``D† K†``; both matrices are of colour pictures."""
    K = np.eye(len(downscale)) if degradation is None else degradation
    channels, (H, W) = COLOURS, operator.image_size
    size = K.shape[0] // math.prod(operator.measurement_size), *operator.measurement_size
    guesses = operator.interpolate(torch.eye(len(K), dtype=torch.float64).reshape(-1, *size))
    return case_of(
        operator,
        A=K @ downscale,
        pinv=np.linalg.pinv(downscale) @ np.linalg.pinv(K, rcond=1e-6),
        # A guess may be any: nothing else knows this one, which warm starts alone depend on.
        interpolation=guesses.reshape(len(K), channels * H * W).numpy().T,
        autoencoder="lossy",
        channels=channels,
    )


def _of_planes(resize: Callable[[Array], Array], size: tuple[int, int]) -> Array:
    """Return the matrix of what is done to each colour plane of this size."""
    units = np.eye(math.prod(size)).reshape(-1, *size)
    return np.kron(np.eye(COLOURS), np.stack([resize(unit).ravel() for unit in units], axis=1))


def _bicubic(scale: float) -> tuple[BicubicDownscale, Array]:
    operator = BicubicDownscale(SMALL, scale)

    def resize(picture: Array) -> Array:
        image = Image.fromarray(picture.astype(np.float32))
        return np.array(image.resize(SMALL[::-1], Image.Resampling.BICUBIC), dtype=np.float64)

    return operator, _of_planes(resize, operator.image_size)


def _averages() -> tuple[AveragePooling, Array]:
    operator = AveragePooling(SMALL, 2)
    blocks = [np.kron(np.eye(n), np.full((1, 2), 1 / 2)) for n in operator.measurement_size]
    return operator, np.kron(np.eye(COLOURS), np.kron(*blocks))


def _blurred(*filters: Callable[[Array], Array]) -> Array:
    """Return a separable blur of which, along each axis, what is nearly lost is lost."""
    axes = []
    for of_line, side in zip(filters, SMALL, strict=True):
        u, values, vt = np.linalg.svd(of_line(np.eye(side)))
        axes.append((u * np.where(values < LOST, 0, values)) @ vt)
    return np.kron(np.eye(COLOURS), np.kron(*axes))


def _gaussian(deviation: float) -> Callable[[Array], Array]:
    reach = math.ceil(4 * deviation)
    return lambda line: ndimage.gaussian_filter1d(line, deviation, axis=0, radius=reach)


def _uniform(line: Array) -> Array:
    return ndimage.uniform_filter1d(line, 3, axis=0)


GREY = np.kron(np.full((1, COLOURS), 1 / COLOURS), np.eye(KNOWN.size))
MASK = np.kron(np.eye(COLOURS), np.diag(KNOWN.ravel().astype(float)))
KNOWN_GREY = np.diag(KNOWN.ravel().astype(float)) @ GREY
DEGRADATIONS: dict[str, tuple[Degradation, Array]] = {
    "grey": (Grey(), GREY),
    "masked": (Masked(torch.from_numpy(KNOWN)), MASK),
    "blurred": (Blurred.gaussian(0.8), _blurred(_gaussian(0.8), _gaussian(0.8))),
    "unevenly blurred": (Blurred.gaussian(1.2, 0.5), _blurred(_gaussian(1.2), _gaussian(0.5))),
    "averaged": (Blurred.uniform(3), _blurred(_uniform, _uniform)),
    "old photo": (Chain((Grey(), Masked(torch.from_numpy(KNOWN)))), KNOWN_GREY),
}


def operator_cases() -> dict[str, Case]:
    """Return a problem with a lossy autoencoder around every operator, alone and composed."""
    downscales: dict[str, tuple[LinearOperator, Array]] = {
        "×1": _bicubic(1),
        "×2": _bicubic(2),
        "means of squares": _averages(),
    }
    cases = {name: _case(*downscale) for name, downscale in downscales.items()}
    cases["×1.5"] = _case(*_bicubic(1.5))
    for (of, (downscale, D)), (name, (degradation, K)) in product(
        downscales.items(), DEGRADATIONS.items()
    ):
        cases[f"{of}, {name}"] = _case(Degraded(downscale, degradation), D, K)
    return cases
