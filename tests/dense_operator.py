"""A measurement that is any matrix whatever: the operators' interface in its plainest form."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class DenseOperator:
    """Applies ``matrix`` [h·w, H·W] to every flattened channel; the inverse is numpy's."""

    matrix: np.ndarray
    image_size: tuple[int, int]
    measurement_size: tuple[int, int]

    def A(self, x: Tensor) -> Tensor:
        return _apply(self.matrix, x, self.measurement_size)

    def pinv(self, y: Tensor) -> Tensor:
        return _apply(np.linalg.pinv(self.matrix), y, self.image_size)

    def interpolate(self, y: Tensor) -> Tensor:
        return self.pinv(y)


def _apply(matrix: np.ndarray, x: Tensor, size: tuple[int, int]) -> Tensor:
    return (x.flatten(-2) @ torch.from_numpy(matrix.T).to(x.dtype)).unflatten(-1, size)
