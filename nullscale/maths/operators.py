"""Linear measurements of an image, their exact pseudo-inverses, and the projection built on them.

An operator is separable, `A = D_h ⊗ D_w`, and each `D` is a banded matrix, so the work of `A` and
`A†` grows linearly with the number of pixels. Operators never clip: they stay linear.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nullscale.errors import InvalidParameter
from nullscale.maths.banded import AxisFactors, axis_factors
from nullscale.maths.exact_products import exact_products

MIN_SCALE = 1.1


@runtime_checkable
class LinearOperator(Protocol):
    """A measurement `y = A x` of an image and its Moore-Penrose inverse (DDNM, Eq. 10)."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of `x`."""
        ...

    @property
    def measurement_size(self) -> tuple[int, int]:
        """Height and width of `y`."""
        ...

    def A(self, x: Float[Tensor, "*b H W"]) -> Float[Tensor, "*b h w"]: ...

    def pinv(self, y: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b H W"]:
        """Return `A† y` in memory of its own."""
        ...

    def interpolate(self, y: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b H W"]:
        """Return a smooth picture near what was measured; a flat `y` gives a flat one."""
        ...


def project(
    x: Float[Tensor, "*b Hc Wc"],
    *,
    pinv_y: Float[Tensor, "*b H W"],
    operator: LinearOperator,
    canvas: "Canvas",
    guidance_strength: float,
) -> Float[Tensor, "*b Hc Wc"]:
    """Replace what `A` sees of a canvas by the measurement: `Π_λ x = λ x + E (A†y − λ A†A C x)`.

    `A C Π_λ x = y` for every λ; λ scales the null-space detail of `x`, and λ = 0 leaves `A†y`.
    At λ = 1 this is DDNM, Eq. 13, on the true image size, and an orthogonal projection there.
    """
    x = _full_precision(x)
    seen = operator.pinv(operator.A(canvas.crop(x)))
    # In place where the memory is ours: pictures are large.
    fixed = canvas.extend(seen.mul_(-guidance_strength).add_(pinv_y))
    return fixed.add_(x, alpha=guidance_strength)


def output_side(side: int, scale: float) -> int:
    """Return `floor(scale · side + ½)`, the length in pixels of a side after upscaling.

    Raises:
        InvalidParameter: the scale is neither 1 nor a number from 1.1 up.
    """
    if not math.isfinite(scale) or (scale != 1 and scale < MIN_SCALE):
        raise InvalidParameter("scale", f"must be 1 or at least {MIN_SCALE}, got {scale:g}")
    return math.floor(scale * side + 0.5)


@dataclass(frozen=True, slots=True)
class BicubicDownscale:
    """Antialiased bicubic downscaling from `output_side` of each side to `measurement_size`.

    Each axis is stretched by its own ratio of true sizes, not by the nominal scale.

    Raises:
        InvalidParameter: the scale is neither 1 nor a number from 1.1 up.
    """

    measurement_size: tuple[int, int]
    scale: float

    def __post_init__(self) -> None:
        assert min(self.measurement_size) > 0, self.measurement_size
        output_side(1, self.scale)

    @property
    def image_size(self) -> tuple[int, int]:
        h, w = self.measurement_size
        return output_side(h, self.scale), output_side(w, self.scale)

    def A(self, x: Float[Tensor, "*b H W"]) -> Float[Tensor, "*b h w"]:
        """Downscale: `D_h x D_wᵀ`."""
        x = _full_precision(x)
        rows, columns = self._factors(x)
        with exact_products(x.device):
            return columns.down.along_columns(rows.down.along_rows(x))

    def pinv(self, y: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b H W"]:
        """Apply `A† = Aᵀ (A Aᵀ)⁻¹`, per axis `Dᵀ (D Dᵀ)⁻¹`."""
        y = _full_precision(y)
        rows, columns = self._factors(y)
        with exact_products(y.device):
            y = rows.gram_inverse.along_rows(columns.gram_inverse.along_columns(y))
            return rows.up.along_rows(columns.up.along_columns(y))

    def interpolate(self, y: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b H W"]:
        """Enlarge by the same kernel: `Aᵀ y / Aᵀ 1`, which is bicubic interpolation."""
        y = _full_precision(y)
        rows, columns = self._factors(y)
        tall, wide = y.new_ones(y.shape[-2], 1), y.new_ones(1, y.shape[-1])
        with exact_products(y.device):
            taller = rows.up.along_rows(y) / rows.up.along_rows(tall)
            return columns.up.along_columns(taller) / columns.up.along_columns(wide)

    def _factors(self, like: Tensor) -> tuple[AxisFactors, AxisFactors]:
        (h, w), (H, W) = self.measurement_size, self.image_size
        rows = axis_factors(h, H, like.dtype, like.device)
        return rows, axis_factors(w, W, like.dtype, like.device)


@dataclass(frozen=True, slots=True)
class AveragePooling:
    """The mean of every `factor` × `factor` square of pixels."""

    measurement_size: tuple[int, int]
    factor: int

    @property
    def image_size(self) -> tuple[int, int]:
        h, w = self.measurement_size
        return h * self.factor, w * self.factor

    def A(self, x: Float[Tensor, "*b H W"]) -> Float[Tensor, "*b h w"]:
        """Average the squares."""
        h, w = self.measurement_size
        x = _full_precision(x)
        return x.reshape(*x.shape[:-2], h, self.factor, w, self.factor).mean((-3, -1))

    def pinv(self, y: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b H W"]:
        """Repeat every sample over its square (DDNM, section 3.3)."""
        y = _full_precision(y)
        return y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)

    def interpolate(self, y: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b H W"]:
        """Repeat every sample over its square."""
        return self.pinv(y)


@dataclass(frozen=True, slots=True)
class Canvas:
    """An image set in the top left corner of a canvas whose sides are multiples of `multiple_px`.

    `crop` (C) takes the image out and `extend` (E) fills the border by reflection, so `C E = I`.
    """

    image_size: tuple[int, int]
    multiple_px: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the canvas."""
        h, w = (-(-side // self.multiple_px) * self.multiple_px for side in self.image_size)
        return h, w

    def crop(self, x: Float[Tensor, "*b Hc Wc"]) -> Float[Tensor, "*b H W"]:
        """Take the image out of the canvas."""
        H, W = self.image_size
        return x[..., :H, :W]

    def extend(self, x: Float[Tensor, "*b H W"]) -> Float[Tensor, "*b Hc Wc"]:
        """Fill the canvas with the image and its reflections, repeated where it is too small."""
        for dim, side, canvas_side in zip((-2, -1), self.image_size, self.size, strict=True):
            if side != canvas_side:
                x = x.index_select(dim, _reflection(side, canvas_side).to(x.device))
        return x


def _reflection(side: int, length: int) -> Int[Tensor, " length"]:
    """Indices 0 … side−1 … 0 … as a mirror on the outermost pixels gives them."""
    period = max(2 * side - 2, 1)
    phase = torch.arange(length) % period
    return torch.minimum(phase, period - phase) if side > 1 else phase


def _full_precision(x: Tensor) -> Tensor:
    """Float64 stays; everything else becomes float32, in which operators are applied."""
    return x if x.dtype == torch.float64 else x.float()
