"""GroupNorm by our kernels on CUDA, by PyTorch elsewhere."""

from functools import cache
from types import ModuleType

import torch.nn.functional as F
from torch import Tensor, nn


def normed(x: Tensor, norm: nn.GroupNorm, *, silu: bool) -> Tensor:
    """Return the norm [b, c, h, w] of x, and SiLU of that."""
    if kernels := on_kernels(x, norm):
        found: Tensor = kernels.norm(x, norm, None, silu=silu)
        return found
    result: Tensor = norm(x)
    return F.silu(result, inplace=True) if silu else result


def on_kernels(x: Tensor, *norms: nn.GroupNorm) -> ModuleType | None:
    """Return `nullscale.networks.kernels` if they can compute norms of x, None if not."""
    kernels = _kernels() if x.is_cuda else None
    return kernels if kernels is not None and all(map(kernels.fits, norms)) else None


@cache
def _kernels() -> ModuleType | None:
    """Triton comes with PyTorch for CUDA, where there is one for the platform."""
    try:
        from nullscale.networks import kernels
    except ImportError:
        return None
    return kernels
