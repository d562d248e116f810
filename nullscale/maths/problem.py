"""What a small picture says of the large one that is looked for."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, UInt8
from torch import Tensor

from nullscale.errors import InvalidParameter
from nullscale.maths.degradations import Degradation, Degraded
from nullscale.maths.nearby import round_nearby
from nullscale.maths.operators import AveragePooling, BicubicDownscale, LinearOperator
from nullscale.maths.rounding import RoundedImage, round_consistently, round_plainly

Downscale = Literal["bicubic", "average"]


@dataclass(frozen=True, slots=True)
class Problem:
    """An inverse problem ``y = A x`` (DDNM, Eq. 5), and the small picture that it is read off.

    Attributes:
        small: 8-bit samples.
        y: what they say of the picture, nominally 0 to 1.
    """

    small: UInt8[Tensor, "3 h w"]
    operator: LinearOperator
    y: Float[Tensor, "c h w"]

    def round(self, x: Float[Tensor, "3 H W"], *, consistent: bool) -> RoundedImage:
        """Round a picture, nominally 0 to 1, to 8 bits; ``consistent``: so that ``y`` survives."""
        if not isinstance(self.operator, BicubicDownscale):
            return round_nearby(x, self.y, self.operator, pin=consistent)
        round_ = round_consistently if consistent else round_plainly
        return round_(x, self.small, self.operator)


def pose(
    small: UInt8[Tensor, "3 h w"],
    scale: float,
    downscale: Downscale = "bicubic",
    degradation: Degradation | None = None,
) -> Problem:
    """Return the problem whose answer is ``scale`` times as large as ``small``.

    Raises:
        InvalidParameter: no picture can have become so much smaller in this way.
    """
    check_downscale(downscale, scale)
    size, y = (small.shape[-2], small.shape[-1]), small / 255
    operator: LinearOperator = BicubicDownscale(size, scale)
    if downscale == "average":
        operator = AveragePooling(size, int(scale))
    if degradation is None:
        return Problem(small, operator, y)
    return Problem(small, Degraded(operator, degradation), degradation.observe(y))


def check_downscale(downscale: Downscale, scale: float) -> None:
    """Do nothing where a picture can have become so much smaller in this way.

    Raises:
        InvalidParameter: it cannot.
    """
    if downscale == "average" and scale != int(scale):
        raise InvalidParameter("scale", "must be whole for means of squares")
