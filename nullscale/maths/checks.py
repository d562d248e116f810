"""Whether a picture can be the answer to its input: a device or a model that fails says nothing."""

import torch
from jaxtyping import Float
from torch import Tensor

from nullscale.errors import InvalidResult
from nullscale.maths.operators import LinearOperator
from nullscale.maths.params import UpscaleParams

_TOLERANCE = 1 / 255  # what is left of the projection's rounding errors is far below


def check_picture(
    picture: Float[Tensor, "3 H W"],
    y: Float[Tensor, "c h w"],
    operator: LinearOperator,
    params: UpscaleParams,
) -> None:
    """Find pictures that no sampler could have meant, before range and rounding hide it.

    A projected picture gives its input back, and what it adds is bounded: two pictures in range
    that have the same downscale differ by at most 1/2 in the root mean square, since both lie
    within 1/2 of mid-grey and their common part is orthogonal to the difference. One that is not
    bound to its input is refused when it is flat and the input shows more than noise.

    Raises:
        InvalidResult: it is not finite, does not belong to its input, or is empty.
    """
    if not bool(torch.isfinite(picture).all()):
        raise InvalidResult("the model produced a picture with non-finite samples")
    if not params.consistent:
        # Next to nothing beside its noise, or beside a level, may rightly come out as nothing.
        least = max(2 * params.sigma_y, 2 / 255)
        if float(y.flatten(1).std(1, correction=0).max()) > least and is_flat(
            (255 * picture).round().clamp(0, 255)
        ):
            raise InvalidResult("the model produced an empty picture")
        return
    if float((operator.A(picture) - y).square().mean().sqrt()) > _TOLERANCE:
        raise InvalidResult("the model produced a picture that does not give the input back")
    # Measured from mid-grey; in place, since pictures are large.
    seen = operator.pinv(y - operator.A(torch.full_like(picture, 0.5)))
    added = seen.neg_().add_(picture).sub_(0.5)
    if float(added.square().mean().sqrt()) > max(1.0, params.guidance_strength) / 2:
        raise InvalidResult("the model produced a picture far out of range")


def is_flat(x: Tensor) -> bool:
    """Say whether each channel of ``x`` [c, h, w] holds a single value."""
    return bool((x.amax((-2, -1)) == x.amin((-2, -1))).all())
