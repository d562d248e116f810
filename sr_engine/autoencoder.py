"""The two ways between pixels and latents: a checkpoint's autoencoder, or a cheaper one.

AutoencoderTiny (TAESD) is trained to give the latents of an AutoencoderKL *after* their shift and
scale, so that both mean the same here.
"""

from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from jaxtyping import Float
from torch import Tensor


class Autoencoder:
    """The design's ``g`` and ``g'``, float32 at the borders; its state is the network's weights.

    Attributes:
        factor: pixels a latent, per axis.
        latent_channels: of the latents.
    """

    def __init__(self, network: AutoencoderKL | AutoencoderTiny) -> None:
        # Convolutions would reorder every input; the inputs themselves may have any layout.
        self.network: Any = network.to(memory_format=torch.channels_last)
        config = network.config
        self.latent_channels: int = config.latent_channels
        self.factor: int = 2 ** (len(config.block_out_channels) - 1)
        self._scale: float = config.scaling_factor
        self._shift: float = config.shift_factor or 0.0

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Pixels of latents, nominally 0 to 1, not clipped."""
        raw = latents.to(self.network.device) / self._scale + self._shift
        (pixels,) = self.network.decode(raw.to(self.network.dtype), return_dict=False)
        result: Tensor = (pixels.float() + 1) / 2
        return result

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Latents ``(mean − shift)·scale`` of pixels in 0 to 1.

        The mode of the posterior, not a sample, so that encoding adds no noise of its own.
        """
        scaled = (2 * pixels.to(self.network.device) - 1).to(self.network.dtype)
        (found,) = self.network.encode(scaled, return_dict=False)
        mean: Tensor = (found if isinstance(found, Tensor) else found.mode()).float()
        return (mean - self._shift) * self._scale
