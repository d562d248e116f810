"""Separable blur and its pseudo-inverse, by the cosine transform (DDNM, section 3.3)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LOST = 0.1
"""Singular values of a blur below this are taken for zero: what they carry is lost in 8 bits."""


@dataclass(frozen=True)
class Blurred:
    """Separable symmetric blur, the picture mirrored at its borders.

    The cosine transform diagonalises it, so `A` and `A†` take a Fourier transform each way.

    Attributes:
        rows, columns: upper half of the kernel along each axis, from its centre outwards; sums to 1
            with the centre once and all others twice.
    """

    rows: tuple[float, ...]
    columns: tuple[float, ...]

    @classmethod
    def gaussian(cls, rows_px: float, columns_px: float | None = None) -> "Blurred":
        """A Gaussian of those standard deviations in pixels; one of two makes it anisotropic."""
        columns_px = rows_px if columns_px is None else columns_px
        return cls(*(_gaussian(deviation_px) for deviation_px in (rows_px, columns_px)))

    @classmethod
    def uniform(cls, side_px: int) -> "Blurred":
        """The mean over squares of an odd side."""
        assert side_px % 2 == 1
        half = (1 / side_px,) * (side_px // 2 + 1)
        return cls(half, half)

    def A(self, x: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
        """Blur; what is nearly lost is lost."""
        for dim, kernel in ((-2, self.rows), (-1, self.columns)):
            x = _filtered(x, dim, _gains(kernel, x.shape[dim], x.dtype).to(x.device))
        return x

    def pinv(self, y: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
        """Sharpen what is left."""
        for dim, kernel in ((-2, self.rows), (-1, self.columns)):
            gains = _gains(kernel, y.shape[dim], y.dtype).to(y.device)
            inverse = torch.where(gains == 0, 0.0, 1 / gains)
            y = _filtered(y, dim, inverse)
        return y

    def fill(self, y: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
        """Leave it as it is."""
        return y

    def observe(self, picture: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
        """Take out what no blurred picture has: rounding, and what is nearly lost."""
        return self.A(self.pinv(picture))


def _gaussian(deviation_px: float) -> tuple[float, ...]:
    """The half of a Gaussian out to four standard deviations."""
    if deviation_px == 0:
        return (1.0,)
    reach = math.ceil(4 * deviation_px)
    half = [math.exp(-0.5 * (i / deviation_px) ** 2) for i in range(reach + 1)]
    total = 2 * sum(half) - half[0]
    return tuple(value / total for value in half)


def _gains(kernel: tuple[float, ...], side: int, dtype: torch.dtype) -> Float[Tensor, " k"]:
    """Eigenvalues of the blur on a mirrored line: its cosine series, small ones set to 0."""
    angles = torch.pi / side * torch.arange(side + 1, dtype=torch.float64)
    steps = torch.arange(len(kernel), dtype=torch.float64)
    twice = 2 * torch.tensor(kernel, dtype=torch.float64)
    twice[0] /= 2
    gains = torch.cos(angles[:, None] * steps) @ twice
    return torch.where(gains.abs() < LOST, 0.0, gains).to(dtype)


def _filtered(x: Tensor, dim: int, gains: Float[Tensor, " k"]) -> Tensor:
    """Multiply the cosine transform along an axis by `gains`."""
    side = x.shape[dim]
    spectrum = torch.fft.rfft(torch.cat((x, x.flip(dim)), dim), dim=dim)
    gains = gains[:, None] if dim == -2 else gains
    mirrored: Tensor = torch.fft.irfft(spectrum * gains, n=2 * side, dim=dim)
    return mirrored.narrow(dim, 0, side)
