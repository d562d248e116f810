"""3×3 convolutions by Winograd's minimal filtering: a quarter of the products.

F(4×4, 3×3) of Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", §4: a tile of
6×6 inputs becomes 4×4 outputs by 36 products for each pair of channels, not 144. For float32 on
CPUs, where products are what takes the time, and where oneDNN, PyTorch's library for convolutions,
has no such algorithm.
"""

from typing import TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.polynomial.polynomial import polyfromroots
from torch import Tensor, nn

from nullscale.networks.folded_upsample import plain_3x3

_OUT, _TAPS = 4, 3
_IN = _OUT + _TAPS - 1
_POINTS = np.array([0, 0.75, -0.75, 1.5, -1.5])
"""Where polynomials are multiplied, besides infinity. Rounding errors are half of those at the
usual points, 0, ±1 and ±2, and up to four times those of the direct sum."""

_FEWEST_PAIRS = 64 * 128
"""With fewer pairs of channels the transforms take more time than the products that they save."""

_STRIP_NUMBERS = 2**19
"""Tiles are transformed so many numbers at a time, which stay in a core's cache."""


def worthwhile(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether `WinogradConv` computes the same, and sooner."""
    return (
        plain_3x3(conv)
        and (conv.weight.device.type, conv.weight.dtype) == ("cpu", torch.float32)
        and conv.in_channels * conv.out_channels >= _FEWEST_PAIRS
    )


class WinogradConv(nn.Module):
    """Equal to a `Conv2d` that is `plain_3x3`.

    Its weights are transformed in float64 and rounded once; they are four times as many.
    """

    _inputs: Tensor
    _outputs: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        outputs, taps, inputs = (torch.from_numpy(matrix) for matrix in _transforms())
        exact = torch.einsum("uk,vl,oikl->uvio", taps, taps, conv.weight.double())
        weight = exact.flatten(0, 1).to(conv.weight.dtype).contiguous()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = conv.bias if conv.bias is not None else weight.new_zeros(weight.shape[2])
        # Of both axes at once: one product of matrices is sooner done than two.
        for name, matrix in (("_inputs", inputs), ("_outputs", outputs)):
            both = torch.kron(matrix, matrix).to(weight)
            self.register_buffer(name, both, persistent=False)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """The convolution, channels last in memory."""
        batch, channels, height, width = x.shape
        down, across = -(-height // _OUT), -(-width // _OUT)
        borders = (0, 0, 1, _OUT * across - width + 1, 1, _OUT * down - height + 1)
        tiles = F.pad(x.permute(0, 2, 3, 1), borders).unfold(1, _IN, _OUT).unfold(2, _IN, _OUT)
        found = x.new_empty(batch, down, _OUT, across, _OUT, self.weight.shape[2])
        rows = max(1, _STRIP_NUMBERS // (batch * across * _IN**2 * max(self.weight.shape[1:])))
        strips = torch.split(tiles, rows, 1), torch.split(found, rows, 1)
        for strip, out in zip(*strips, strict=True):
            numbers = strip.permute(4, 5, 0, 1, 2, 3).reshape(_IN**2, -1)
            products = (self._inputs @ numbers).view(_IN**2, -1, channels) @ self.weight
            sums = (self._outputs @ products.flatten(1)).view(_OUT, _OUT, *out[:, :, 0, :, 0].shape)
            torch.add(sums.permute(2, 3, 0, 4, 1, 5), self.bias, out=out)
        whole = found.flatten(3, 4).flatten(1, 2)[:, :height, :width]
        return whole.permute(0, 3, 1, 2)


def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Aᵀ, G and Bᵀ of Toom and Cook: on one axis, outputs are Aᵀ (G taps ∘ Bᵀ inputs)."""
    outputs, taps, inputs = np.zeros((_OUT, _IN)), np.zeros((_IN, _TAPS)), np.zeros((_IN, _IN))
    for number, point in enumerate(_POINTS):
        others = np.delete(_POINTS, number)
        outputs[:, number] = point ** np.arange(_OUT)
        taps[number] = point ** np.arange(_TAPS) / np.prod(point - others)
        inputs[number, :-1] = polyfromroots(others)
    outputs[-1, -1] = taps[-1, -1] = 1
    inputs[-1] = polyfromroots(_POINTS)
    return outputs, taps, inputs
