"""The 1-D factors of bicubic downscaling, as banded matrices.

Each keeps dense blocks of its rows over the columns that they reach, so that a product is a few
ordinary matrix products, and memory and time grow linearly with the side of the image.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BLOCK = 32  # rows of D to a block: a compromise of wasted zeros and short matrix products
_INVERSE_REACH = 48  # columns off its diagonal where (D Dᵀ)⁻¹ has vanished in float64


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
    """A banded matrix, kept as dense blocks of consecutive rows over the columns they reach.

    Its products have no gradient. Who multiplies sees to it that they are exact (`exact_products`).
    """

    columns: int
    blocks: tuple[tuple[int, Tensor], ...]  # first column; [rows, reached columns]

    def along_rows(self, x: Float[Tensor, "*b n k"]) -> Float[Tensor, "*b m k"]:
        """Return `M x`."""
        assert x.shape[-2] == self.columns, (x.shape, self.columns)
        return torch.cat([m @ x[..., c : c + m.shape[1], :] for c, m in self.blocks], dim=-2)

    def along_columns(self, x: Float[Tensor, "*b k n"]) -> Float[Tensor, "*b k m"]:
        """Return `x Mᵀ`."""
        assert x.shape[-1] == self.columns, (x.shape, self.columns)
        result = x.new_empty(*x.shape[:-1], sum(m.shape[0] for _, m in self.blocks))
        end = 0
        # Into their places: columns, unlike rows, take half as long again to concatenate.
        for c, m in self.blocks:
            begin, end = end, end + m.shape[0]
            torch.matmul(x[..., c : c + m.shape[1]], m.mT, out=result[..., begin:end])
        return result

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
        down, up, inverse = (m.to(dtype, device) for m in (self.down, self.up, self.gram_inverse))
        return AxisFactors(down, up, inverse, self.gram_norm)


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
    """Return `(D Dᵀ)⁻¹`, window by window, and a bound of the eigenvalues of `D Dᵀ`.

    The inverse of a well-conditioned banded matrix decays exponentially off its diagonal (Demko,
    Moss and Smith 1984): here to less than 1e-16 of it within 35 columns at any ratio. So rows
    taken from the middle of a window's inverse are those of the whole inverse in float64. No window
    has a larger eigenvalue than the whole (Cauchy's interlacing); the largest of any is less than a
    thousandth below.
    """
    h, norm = len(first), 0.0
    blocks = []
    for begin in range(0, h, _INVERSE_REACH):
        end = min(begin + _INVERSE_REACH, h)
        i, j = max(begin - _INVERSE_REACH, 0), min(end + _INVERSE_REACH, h)
        _, block = _dense(first, weights, columns, i, j)
        gram = block @ block.mT
        norm = max(norm, float(torch.linalg.eigvalsh(gram)[-1]))
        blocks.append((i, torch.linalg.inv(gram)[begin - i : end - i].contiguous()))
    return Banded(h, tuple(blocks)), 1.01 * norm
