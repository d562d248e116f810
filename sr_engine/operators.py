"""Linear measurements of an image, their exact pseudo-inverses, and the projection built on them.

An operator is separable, `A = D_h ⊗ D_w`, and each `D` is a banded matrix, so the work of `A` and
`A†` grows linearly with the number of pixels. Operators never clip: they stay linear.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sr_engine.errors import InvalidParameter

MIN_SCALE = 1.1

_BLOCK = 32  # rows of D multiplied at once: 16 and 64 are slower on a CPU
_INVERSE_REACH = 48


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

    def pinv(self, y: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b H W"]: ...


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
    return guidance_strength * x + canvas.extend(pinv_y - guidance_strength * seen)


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
        with _exact_matmul(x):
            return columns.down.along_columns(rows.down.along_rows(x))

    def adjoint(self, y: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b H W"]:
        """Apply the transpose: `D_hᵀ y D_w`."""
        y = _full_precision(y)
        rows, columns = self._factors(y)
        with _exact_matmul(y):
            return rows.up.along_rows(columns.up.along_columns(y))

    def pinv(self, y: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b H W"]:
        """Apply `A† = Aᵀ (A Aᵀ)⁻¹`, per axis `Dᵀ (D Dᵀ)⁻¹`."""
        y = _full_precision(y)
        rows, columns = self._factors(y)
        with _exact_matmul(y):
            y = rows.gram_inverse.along_rows(columns.gram_inverse.along_columns(y))
            return rows.up.along_rows(columns.up.along_columns(y))

    def _factors(self, like: Tensor) -> "tuple[AxisFactors, AxisFactors]":
        (h, w), (H, W) = self.measurement_size, self.image_size
        return axis_factors(h, H, like.dtype, like.device), axis_factors(
            w, W, like.dtype, like.device
        )


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
        return x.unflatten(-1, (w, self.factor)).mean(-1).unflatten(-2, (h, self.factor)).mean(-2)

    def pinv(self, y: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b H W"]:
        """Repeat every sample over its square (DDNM, section 3.3)."""
        y = _full_precision(y)
        return y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)


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


def bicubic_taps(h: int, H: int) -> tuple[Int[Tensor, " h"], Float[Tensor, "h taps"]]:
    """Return each row's first column and weights of the antialiased bicubic `D` [h, H], float64.

    The Keys kernel (a = −0.5), stretched by `H/h` and centred at `(i + ½) H/h`, with the weights
    of a row normalised to sum to one, borders included. Rows are padded with zero weights on the
    right. The sums run in Pillow's order (`Resample.c`), so that the weights are its own to the
    last bit.
    """
    ratio = H / h
    support = 2.0 * ratio
    taps = min(math.ceil(support) * 2 + 1, H)
    center = (torch.arange(h, dtype=torch.float64) + 0.5) * ratio
    first = (center - support + 0.5).trunc().clamp_min(0)
    last = (center + support + 0.5).trunc().clamp_max(H)
    column = first[:, None] + torch.arange(taps, dtype=torch.float64)
    t = ((column - center[:, None] + 0.5) * (1 / ratio)).abs()
    near = ((1.5 * t - 2.5) * t) * t + 1
    far = (((t - 5) * t + 8) * t - 4) * -0.5
    weights = torch.where(t < 1, near, torch.where(t < 2, far, 0.0))
    weights = torch.where(column < last[:, None], weights, 0.0)
    total = torch.zeros(h, dtype=torch.float64)
    for tap in weights.unbind(1):
        total += tap
    return first.long(), weights / total[:, None]


@dataclass(frozen=True, slots=True)
class Banded:
    """A banded matrix, kept as dense blocks of consecutive rows over the columns they reach."""

    columns: int
    blocks: tuple[tuple[int, Tensor], ...]  # first column; [rows, reached columns]

    def along_rows(self, x: Float[Tensor, "*b n k"]) -> Float[Tensor, "*b m k"]:
        """Return `M x`."""
        assert x.shape[-2] == self.columns, (x.shape, self.columns)
        return torch.cat([m @ x[..., c : c + m.shape[1], :] for c, m in self.blocks], dim=-2)

    def along_columns(self, x: Float[Tensor, "*b k n"]) -> Float[Tensor, "*b k m"]:
        """Return `x Mᵀ`."""
        assert x.shape[-1] == self.columns, (x.shape, self.columns)
        return torch.cat([x[..., c : c + m.shape[1]] @ m.mT for c, m in self.blocks], dim=-1)

    def to(self, dtype: torch.dtype, device: torch.device) -> "Banded":
        """Convert every block."""
        return Banded(self.columns, tuple((c, m.to(device, dtype)) for c, m in self.blocks))


def banded(first: Int[Tensor, " m"], weights: Float[Tensor, "m taps"], columns: int) -> Banded:
    """Build a matrix [m, columns] from each row's first column (non-decreasing) and its weights."""
    m = len(first)
    return Banded(
        columns,
        tuple(_dense(first, weights, columns, i, min(i + _BLOCK, m)) for i in range(0, m, _BLOCK)),
    )


def _dense(
    first: Tensor, weights: Tensor, columns: int, begin: int, end: int
) -> tuple[int, Float[Tensor, "rows reach"]]:
    """Return rows `begin` to `end` over the columns they reach, and the first of those."""
    start = int(first[begin])
    stop = min(int(first[end - 1]) + weights.shape[1], columns)
    # Weights past the last column are zeros.
    index = first[begin:end, None] - start + torch.arange(weights.shape[1])
    block = torch.zeros(end - begin, stop - start + weights.shape[1], dtype=weights.dtype)
    return start, block.scatter_(1, index, weights[begin:end])[:, : stop - start].contiguous()


@dataclass(frozen=True, slots=True)
class AxisFactors:
    """One axis: `D`, `Dᵀ`, `(D Dᵀ)⁻¹` and a bound of the largest eigenvalue of `D Dᵀ`."""

    down: Banded
    up: Banded
    gram_inverse: Banded
    gram_norm: float

    def to(self, dtype: torch.dtype, device: torch.device) -> "AxisFactors":
        """Convert every matrix."""
        matrices = (m.to(dtype, device) for m in (self.down, self.up, self.gram_inverse))
        return AxisFactors(*matrices, self.gram_norm)


@lru_cache(maxsize=256)
def axis_factors(h: int, H: int, dtype: torch.dtype, device: torch.device) -> AxisFactors:
    if dtype != torch.float64 or device.type != "cpu":
        exact = axis_factors(h, H, torch.float64, torch.device("cpu"))
        return exact.to(dtype, device)
    first, weights = bicubic_taps(h, H)
    inverse, norm = _gram_inverse(first, weights, H)
    return AxisFactors(banded(first, weights, H), _transposed(first, weights, H), inverse, norm)


def _transposed(first: Tensor, weights: Tensor, columns: int) -> Banded:
    """Return `Dᵀ`, in blocks of about as many columns of `D` as a block of `D` spans."""
    last = first + weights.shape[1] - 1
    step = _BLOCK * max(columns // len(first), 1)
    blocks = []
    for begin in range(0, columns, step):
        end = min(begin + step, columns)
        i, j = int(torch.searchsorted(last, begin)), int(torch.searchsorted(first, end))
        start, block = _dense(first, weights, columns, i, j)
        low, high = max(begin, start), min(end, start + block.shape[1])
        full = torch.zeros(j - i, end - begin, dtype=block.dtype)
        full[:, low - begin : high - begin] = block[:, low - start : high - start]
        blocks.append((i, full.mT.contiguous()))
    return Banded(len(first), tuple(blocks))


def _gram_inverse(first: Tensor, weights: Tensor, columns: int) -> tuple[Banded, float]:
    """Return `(D Dᵀ)⁻¹`, window by window, and Gershgorin's bound of the eigenvalues of `D Dᵀ`.

    The inverse of a well-conditioned banded matrix decays exponentially off its diagonal (Demko,
    Moss and Smith 1984): here to less than 1e-16 of it within 35 columns at any ratio. So rows
    taken from the middle of a window's inverse are those of the whole inverse in float64.
    """
    h, norm = len(first), 0.0
    blocks = []
    for begin in range(0, h, _INVERSE_REACH):
        end = min(begin + _INVERSE_REACH, h)
        i, j = max(begin - _INVERSE_REACH, 0), min(end + _INVERSE_REACH, h)
        _, block = _dense(first, weights, columns, i, j)
        gram = block @ block.mT
        norm = max(norm, float(gram.abs().sum(1).max()))
        blocks.append((i, torch.linalg.inv(gram)[begin - i : end - i].contiguous()))
    return Banded(h, tuple(blocks)), norm


def _full_precision(x: Tensor) -> Tensor:
    """Float64 stays; everything else becomes float32, in which operators are applied."""
    return x if x.dtype == torch.float64 else x.float()


@contextmanager
def _exact_matmul(x: Tensor) -> Iterator[None]:
    """Keep autocast, TF32 and bfloat16 out of matrix products, whatever the caller has set."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(x.device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
