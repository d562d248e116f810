"""Several pictures of one input: what they agree on is known, where they differ is invented."""

import secrets
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nullscale.errors import InvalidParameter
from nullscale.maths.consistency import Consistency
from nullscale.maths.params import MAX_SEED, UpscaleParams
from nullscale.maths.problem import pose
from sr_engine.engine import SREngine
from sr_engine.events import StepEvent, UpscaleResult
from sr_engine.request import UpscaleRequest

MAX_SAMPLES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The mean of several pictures of one input, and how far they spread around it.

    Each picture gives the input back, so their mean does too. Of all pictures it has the least
    expected squared error, and it is smoother than any one of them.

    Attributes:
        image: the mean, 8-bit sRGB samples [H, W, 3], rounded so that it gives the input back.
        spread: standard deviation over the pictures, in grey levels, root mean square over the
            channels, [H, W].
        seeds: of the pictures.
        consistency: of the mean.
    """

    image: UInt8[np.ndarray, "H W 3"]
    spread: Float[np.ndarray, "H W"]
    seeds: tuple[int, ...]
    consistency: Consistency


class Moments:
    """Mean and variance of pictures that come one by one (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self._squares = torch.zeros(())

    def add(self, picture: Float[Tensor, "3 H W"]) -> None:
        """Take one more."""
        self.count += 1
        difference = picture - self.mean
        self.mean = self.mean + difference / self.count
        self._squares = self._squares + difference * (picture - self.mean)

    def variance(self) -> Float[Tensor, "3 H W"]:
        """Return the unbiased estimate; there are at least two."""
        return self._squares / (self.count - 1)


def draw_samples(
    engine: SREngine,
    image: UInt8[np.ndarray, "h w 3"],
    params: UpscaleParams,
    count: int,
    *,
    on_step: Callable[[StepEvent], None] = lambda event: None,
    on_picture: Callable[[UpscaleResult], None] = lambda result: None,
) -> Samples:
    """Upscale one picture with ``count`` seeds, in common batches, and say where they differ.

    The seeds are the given one, or one that is drawn, and those that follow it.

    Raises:
        InvalidParameter: ``count`` is no number from 2 to 64.
        InvalidImage: ``image`` is no [h, w, 3] array of uint8.
        EngineError: the model failed on one of them.
    """
    if not 2 <= count <= MAX_SAMPLES:
        raise InvalidParameter("samples", f"must be between 2 and {MAX_SAMPLES}")
    first = secrets.randbelow(MAX_SEED + 1) if params.seed is None else params.seed
    seeds = tuple((first + i) % (MAX_SEED + 1) for i in range(count))
    moments = Moments()
    requests = [
        UpscaleRequest(request_id=secrets.token_hex(8), image=image, params=replace(params, seed=i))
        for i in seeds
    ]
    with closing(engine.results(requests, on_step=on_step)) as results:
        for result in results:
            moments.add(result.unrounded)
            on_picture(result)
    y = torch.from_numpy(image.copy()).permute(2, 0, 1).contiguous()
    rounded = pose(y, params.scale).round(moments.mean, consistent=params.consistent)
    return Samples(
        image=rounded.image.permute(1, 2, 0).contiguous().numpy(),
        spread=255 * moments.variance().mean(0).sqrt().numpy(),
        seeds=seeds,
        consistency=rounded.consistency,
    )
