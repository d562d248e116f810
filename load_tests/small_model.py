"""A model that costs next to nothing, so that what is measured is the engine around it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nullscale.maths.params import UpscaleParams
from nullscale.scheduling.work import Variant
from sr_engine.model import ModelInfo, PromptEmbeddings

FACTOR = 4


class SmallModel:
    """A lossless autoencoder (pixels set side by side as channels) and a denoiser that blurs."""

    def __init__(self, *, native_px: int = 256) -> None:
        self.info = ModelInfo(
            name="small",
            native_px=native_px,
            vae_factor=FACTOR,
            multiple_px=2 * FACTOR,
            latent_channels=3 * FACTOR**2,
            shift=1.0,
            parameters=0,
            memory_bytes=0,
            device="cpu",
            dtype="float32",
            prompts=False,
            draft=False,
        )
        self.defaults = UpscaleParams(num_inference_steps=4, strength=0.5)
        self.empty_prompt = PromptEmbeddings(torch.zeros(1, 1), torch.zeros(1))

    def velocity(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[PromptEmbeddings],
        variant: Variant = Variant.BASE,
    ) -> Tensor:
        """Return the velocity whose x0 is the blurred input."""
        x0 = F.avg_pool2d(latents, 3, 1, 1, count_include_pad=False)
        return (latents - x0) / sigmas[:, None, None, None]

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        """Return the pixels that the channels are."""
        return 0.5 + 0.25 * F.pixel_shuffle(latents, FACTOR)

    def encode(self, pixels: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        """Return the pixels as channels."""
        return 4 * (F.pixel_unshuffle(pixels, FACTOR) - 0.5)

    def encode_prompt(self, prompt: str) -> PromptEmbeddings:
        """Return what the empty prompt gives."""
        return self.empty_prompt

    def release_float32(self) -> None:
        """Do nothing: this is float32."""
