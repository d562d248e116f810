"""A model small enough to reason about, in place of the networks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nullscale.maths.params import UpscaleParams
from nullscale.scheduling.work import Variant
from sr_engine.model import ModelInfo, PromptEmbeddings


class FakeModel:
    """Every network acts on each row alone; ``calls`` records the batch size of each call.

    The autoencoder halves the sides and is lossy, its draft more so; the velocity pulls towards a
    smooth picture that depends on the prompt.
    """

    def __init__(self, *, native_px: int = 32, shift: float = 1.0, dtype: str = "float32") -> None:
        self.info = ModelInfo(
            name="fake",
            native_px=native_px,
            vae_factor=2,
            multiple_px=4,
            latent_channels=3,
            shift=shift,
            parameters=0,
            memory_bytes=0,
            device="cpu",
            dtype=dtype,
            prompts=True,
            draft=True,
        )
        self.defaults = UpscaleParams(num_inference_steps=3)
        self.empty_prompt = PromptEmbeddings(torch.zeros(1, 4), torch.zeros(4))
        self.calls: list[tuple[str, int]] = []
        self.released = 0

    def velocity(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[PromptEmbeddings],
        variant: Variant = Variant.BASE,
    ) -> Tensor:
        self.calls.append(("denoise", len(latents)))
        bias = torch.stack([p.pooled.mean() for p in prompts])[:, None, None, None]
        smooth = torch.nn.functional.avg_pool2d(latents, 3, 1, 1)
        return latents - 0.7 * smooth * (1 - sigmas[:, None, None, None]) - bias

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        self.calls.append(("decode", len(latents)))
        large = torch.nn.functional.interpolate(latents, scale_factor=2, mode="nearest")
        return 0.5 + 0.25 * large

    def encode(self, pixels: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        self.calls.append(("encode", len(pixels)))
        gain = 3.5 if variant is Variant.DRAFT else 3.9
        return gain * (torch.nn.functional.avg_pool2d(pixels, 2) - 0.5)

    def release_float32(self) -> None:
        self.released += 1

    def encode_prompt(self, prompt: str) -> PromptEmbeddings:
        return PromptEmbeddings(torch.zeros(1, 4), torch.full((4,), len(prompt) / 100))
