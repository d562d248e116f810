"""The networks: velocity of the transformer, encoder and decoder of the autoencoder.

Everything is float32 at its borders; inside, the networks run in the model's own dtype.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache

import torch
from diffusers import SD3Transformer2DModel
from jaxtyping import Float
from torch import Tensor

from nullscale.maths.params import UpscaleParams
from nullscale.networks.autoencoder import Autoencoder
from nullscale.networks.fast_transformer import FastTransformer
from nullscale.networks.memory import parameter_count, weight_bytes
from nullscale.networks.prompts import PromptEncoder
from nullscale.scheduling.work import Variant
from sr_engine.model import ModelInfo, PromptEmbeddings
from sr_engine.timing import on_device

KNOWN_PROMPTS = 16
"""Prompts whose embeddings are kept, the last ones used: 5.5 MB each for SD3.5."""


class SRModel:
    """A checkpoint's networks on one device; its state is the weights.

    Attributes:
        info: what can be said of it.
        defaults: parameters for this model, from the ``defaults`` of its own ``nullscale.json``.
        empty_prompt: embeddings of the empty prompt, on the model's device.
        num_train_timesteps: the transformer's time at σ = 1; the checkpoint's scheduler
            configuration has it.
    """

    def __init__(
        self,
        transformer: SD3Transformer2DModel | FastTransformer,
        autoencoder: Autoencoder,
        prompt_encoder: PromptEncoder,
        *,
        draft: Autoencoder | None = None,
        quantize: str | None = None,
        name: str,
        shift: float,
        num_train_timesteps: int,
        empty_prompt: PromptEmbeddings,
        defaults: UpscaleParams,
    ) -> None:
        self.transformer = transformer
        self.autoencoder = autoencoder
        self.device: torch.device = prompt_encoder.device
        self.dtype: torch.dtype = prompt_encoder.dtype
        self.num_train_timesteps = num_train_timesteps
        self.empty_prompt = empty_prompt
        self.defaults = defaults
        self._draft = draft
        self._float32: tuple[SD3Transformer2DModel | FastTransformer, Autoencoder] | None = None
        # One object a prompt, whoever asks: by it the transformer knows what it has tabulated.
        self._encode = lru_cache(KNOWN_PROMPTS)(prompt_encoder.encode)
        coders = [autoencoder, draft] if draft else [autoencoder]
        networks = [transformer, *(n for coder in coders for n in (coder.stock, coder.network))]
        self.info = ModelInfo(
            name=name,
            native_px=transformer.config.sample_size * autoencoder.factor,
            vae_factor=autoencoder.factor,
            multiple_px=transformer.config.patch_size * autoencoder.factor,
            latent_channels=autoencoder.latent_channels,
            shift=shift,
            parameters=parameter_count(*networks[:2]),
            memory_bytes=weight_bytes(*networks, device=self.device),
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            prompts=prompt_encoder.available,
            draft=draft is not None,
            quantize=quantize,
        )

    @torch.no_grad()
    def velocity(
        self,
        latents: Float[Tensor, "b c h w"],
        sigmas: Float[Tensor, " b"],
        prompts: Sequence[PromptEmbeddings],
        variant: Variant = Variant.BASE,
    ) -> Float[Tensor, "b c h w"]:
        """Velocity ``v = ε − x0`` of each row at its own noise level and with its own prompt.

        All prompts of a batch have the same number of tokens, as those of one checkpoint have.
        Noise levels are wanted on the host: reading them off a device would wait for it.
        """
        # Quantised weights have no float32 twin, and where they are wanted no room for one.
        exact = variant is Variant.FLOAT32 and self.info.quantize is None
        transformer = self._in_float32()[0] if exact else self.transformer
        place, dtype = self.device, torch.float32 if exact else self.dtype
        # float32 whatever the network's dtype: bfloat16 knows no 947.
        timesteps = sigmas.float().cpu() * self.num_train_timesteps
        result: Tensor
        if isinstance(transformer, FastTransformer):
            result = transformer(latents.to(place, dtype), timesteps.tolist(), prompts).float()
            return result
        (velocity,) = transformer(
            latents.to(place, dtype),
            encoder_hidden_states=torch.stack([p.context.to(place, dtype) for p in prompts]),
            pooled_projections=torch.stack([p.pooled.to(place, dtype) for p in prompts]),
            timestep=on_device(timesteps, str(place)),
            return_dict=False,
        )
        result = velocity.float()
        return result

    def decode(
        self, latents: Float[Tensor, "b c h w"], variant: Variant = Variant.BASE
    ) -> Float[Tensor, "b 3 H W"]:
        """Pixels of latents, nominally 0 to 1, not clipped: the design's ``g'``."""
        return self.autoencoder_of(variant).decode(latents)

    def encode(
        self, pixels: Float[Tensor, "b 3 H W"], variant: Variant = Variant.BASE
    ) -> Float[Tensor, "b c h w"]:
        """Latents of pixels in 0 to 1: the design's ``g``."""
        return self.autoencoder_of(variant).encode(pixels)

    def encode_prompt(self, prompt: str) -> PromptEmbeddings:
        """Embeddings of `prompt`; the text encoders are read on first use and stay in memory.

        Raises:
            PromptUnsupported: the checkpoint has no text encoders.
        """
        return self._encode(prompt) if prompt else self.empty_prompt

    def release_float32(self) -> None:
        """Drop the float32 networks, made on first use: four bytes a weight."""
        self._float32 = None

    def autoencoder_of(self, variant: Variant) -> Autoencoder:
        """The one that computes rows of `variant`."""
        if variant is Variant.FLOAT32:
            return self._in_float32()[1]
        if variant is Variant.DRAFT:
            assert self._draft is not None
            return self._draft
        return self.autoencoder

    def _in_float32(self) -> tuple[SD3Transformer2DModel | FastTransformer, Autoencoder]:
        if self._float32 is None:
            quantized = self.info.quantize is not None
            self._float32 = (
                self.transformer if quantized else deepcopy(self.transformer).float(),
                self.autoencoder.in_float32(),
            )
        return self._float32
