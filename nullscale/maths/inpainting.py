"""Lost pixels, and a smooth guess at them (DDNM, section 3.3, inpainting)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


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
