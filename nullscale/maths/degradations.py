"""What may have happened to a small picture besides being small: colour lost, pixels lost, blur.

Each is a linear map `K` with its pseudo-inverse (DDNM, section 3.3), and comes after the downscale:
`Degraded` measures `y = K D x`. Its inverse `D† K†` gives every measurement back, since `D D† = I`:
`A A† = K K†`. With `K` the identity it is `D†`; at scale 1 it is `K†`.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from nullscale.maths.blur import Blurred
from nullscale.maths.inpainting import Masked
from nullscale.maths.operators import LinearOperator


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
