"""What the engine needs of a model, and what can be said of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from nullscale.maths.params import UpscaleParams
from nullscale.scheduling.work import Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What can be said of a loaded model.

    Attributes:
        native_px: side of the square picture that the transformer was trained for.
        vae_factor: pixels a latent, per axis.
        multiple_px: picture sides are multiples of it (autoencoder factor × patch size).
        shift: of the noise levels (SD3, Eq. 23), from the checkpoint's scheduler configuration.
        parameters: of transformer and autoencoder together.
        memory_bytes: what the weights take on the device.
        prompts: the checkpoint has text encoders.
        draft: there is a cheaper autoencoder.
        quantize: how the transformer's weights are kept in fewer bits; None where they are not.
    """

    name: str
    native_px: int
    vae_factor: int
    multiple_px: int
    latent_channels: int
    shift: float
    parameters: int
    memory_bytes: int
    device: str
    dtype: str
    prompts: bool
    draft: bool
    quantize: str | None = None


@dataclass(frozen=True, slots=True)
class PromptEmbeddings:
    """What the transformer sees of one prompt, float32."""

    context: Float[Tensor, "tokens dim"]
    pooled: Float[Tensor, " pooled"]

    def to(self, device: torch.device) -> "PromptEmbeddings":
        """The same embeddings on `device`."""
        return PromptEmbeddings(self.context.to(device), self.pooled.to(device))


@runtime_checkable
class Model(Protocol):
    """What the engine needs of a model; `nullscale.networks.model.SRModel` is the real one."""

    info: ModelInfo
    defaults: UpscaleParams
    empty_prompt: PromptEmbeddings

    def velocity(
        self,
        latents: Float[Tensor, "b c h w"],
        sigmas: Float[Tensor, " b"],
        prompts: Sequence[PromptEmbeddings],
        variant: Variant = Variant.BASE,
    ) -> Float[Tensor, "b c h w"]:
        """Return dx/dσ at each row's own noise level, given on the host."""

    def decode(
        self, latents: Float[Tensor, "b c h w"], variant: Variant = Variant.BASE
    ) -> Float[Tensor, "b 3 H W"]:
        """Return g'(latents), nominally 0 to 1."""

    def encode(
        self, pixels: Float[Tensor, "b 3 H W"], variant: Variant = Variant.BASE
    ) -> Float[Tensor, "b c h w"]:
        """Return g(pixels)."""

    def encode_prompt(self, prompt: str) -> PromptEmbeddings:
        """Return a prompt's embeddings."""

    def release_float32(self) -> None:
        """Drop what `Variant.FLOAT32` keeps in memory."""
