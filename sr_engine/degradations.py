"""What may have happened to a small picture besides being small: colour lost, pixels lost, blur.

Each is a linear map `K` with its pseudo-inverse (DDNM, section 3.3), and comes after the downscale:
`Degraded` measures `y = K D x`. Its inverse `D† K†` gives every measurement back, since `D D† = I`:
`A A† = K K†`. With `K` the identity it is `D†`; at scale 1 it is `K†`.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from sr_engine.operators import LinearOperator

LOST = 0.1
"""Singular values of a blur below this are taken for zero: what they carry is lost in 8 bits."""


@runtime_checkable
class Degradation(Protocol):
    """A linear map of a colour picture, and its Moore-Penrose inverse."""

    def A(self, x: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b c h w"]: ...

    def pinv(self, y: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b 3 h w"]: ...

    def fill(self, y: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b 3 h w"]:
        """Return a smooth picture near what was measured, which need not agree with it."""
        ...

    def observe(self, picture: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b c h w"]:
        """Return what a picture to which this has happened says of what it was before."""
        ...


@dataclass(frozen=True, slots=True)
class Grey:
    """The mean of the three channels (DDNM, section 3.3, colourisation)."""

    def A(self, x: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 1 h w"]:
        """Average the channels."""
        return x.mean(-3, keepdim=True)

    def pinv(self, y: Float[Tensor, "*b 1 h w"]) -> Float[Tensor, "*b 3 h w"]:
        """Give each channel the mean."""
        return y.repeat_interleave(3, -3)

    def fill(self, y: Float[Tensor, "*b 1 h w"]) -> Float[Tensor, "*b 3 h w"]:
        """Give each channel the mean."""
        return self.pinv(y)

    def observe(self, picture: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 1 h w"]:
        """Average the channels: a file may have three equal ones."""
        return self.A(picture)


@dataclass(frozen=True, slots=True, eq=False)
class Masked:
    """Some pixels are known, the others are lost (DDNM, section 3.3, inpainting).

    Attributes:
        known: of each pixel, whether it is; at least one is.
    """

    known: Bool[Tensor, "h w"]

    def __post_init__(self) -> None:
        assert bool(self.known.any())

    def A(self, x: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h w"]:
        """Set lost pixels to 0."""
        return x * self.known.to(x)

    def pinv(self, y: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h w"]:
        """Set lost pixels to 0: `A` is an orthogonal projection."""
        return self.A(y)

    def fill(self, y: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h w"]:
        """Fill lost pixels from the nearest scale at which something around them is known.

        The pyramid of averages of Gortler et al. 1996, "The Lumigraph", section 3.4.
        """
        weight = self.known.to(y).expand(*y.shape[:-2], -1, -1)
        planes = y.reshape(-1, 1, *y.shape[-2:])
        return _pull_push(planes, weight.reshape(planes.shape)).reshape(y.shape)

    def observe(self, picture: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h w"]:
        """Set lost pixels to 0, whatever a file has in their place."""
        return self.A(picture)


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


@dataclass(frozen=True, slots=True)
class Chain:
    """Several of them, one after the other.

    Its inverse is theirs in reverse order, which is the Moore-Penrose one where they act on
    different things: `Grey` on channels, and one of `Masked` and `Blurred` on pixels.
    """

    parts: tuple[Degradation, ...]

    def __post_init__(self) -> None:
        kinds = {type(part) for part in self.parts}
        assert len(kinds) == len(self.parts) and not {Masked, Blurred} <= kinds, kinds

    def A(self, x: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b c h w"]:
        """Apply each."""
        for part in self.parts:
            x = part.A(x)
        return x

    def pinv(self, y: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b 3 h w"]:
        """Apply the inverse of each."""
        for part in reversed(self.parts):
            y = part.pinv(y)
        return y

    def fill(self, y: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b 3 h w"]:
        """Fill in what each has lost."""
        for part in reversed(self.parts):
            y = part.fill(y)
        return y

    def observe(self, picture: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b c h w"]:
        """Take out what each cannot have left."""
        for part in self.parts:
            picture = part.observe(picture)
        return picture


@dataclass(frozen=True, slots=True)
class Degraded:
    """A downscale and what came after it, as one operator.

    At scales other than 1 its inverse is not symmetric, `(A†A)ᵀ ≠ A†A`, and the projection built on
    it is oblique; all that consistency needs, `A A† A = A`, holds.
    """

    downscale: LinearOperator
    degradation: Degradation

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of `x`."""
        return self.downscale.image_size

    @property
    def measurement_size(self) -> tuple[int, int]:
        """Height and width of `y`."""
        return self.downscale.measurement_size

    def A(self, x: Float[Tensor, "*b 3 H W"]) -> Float[Tensor, "*b c h w"]:
        """Downscale, then degrade."""
        return self.degradation.A(self.downscale.A(x))

    def pinv(self, y: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b 3 H W"]:
        """Apply `D† K†`."""
        return self.downscale.pinv(self.degradation.pinv(y))

    def interpolate(self, y: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b 3 H W"]:
        """Enlarge a filled-in picture."""
        return self.downscale.interpolate(self.degradation.fill(y))


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


def _pull_push(planes: Float[Tensor, "b 1 h w"], weight: Float[Tensor, "b 1 h w"]) -> Tensor:
    if bool((weight > 0).all()):
        return planes
    height, width = planes.shape[-2:]
    # Averages of what is known in each square of four, and how much that is.
    known = F.avg_pool2d(weight, 2, ceil_mode=True)
    sums = F.avg_pool2d(weight * planes, 2, ceil_mode=True)
    half = torch.where(known > 0, sums / known.clamp_min(1e-12), 0.0)
    coarse = _pull_push(half, known.sign())
    around = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return torch.where(weight > 0, planes, around)
