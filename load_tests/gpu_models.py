"""Networks of SD3.5's true architecture with random weights, stock and as we run them.

Times and memory do not depend on what the weights say, so these give the real ones. Norms are ones
and everything else is small, so that what comes out is finite and a picture in range.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
)
from safetensors.torch import save_file
from torch import Tensor

from nullscale.maths.params import UpscaleParams
from nullscale.networks.compiling import compile_networks
from nullscale.networks.loading import load_model
from nullscale.networks.model import SRModel
from nullscale.networks.published import PUBLISHED, TOKENS, Architecture
from nullscale.scheduling.work import Variant
from sr_engine.model import ModelInfo, PromptEmbeddings

SHIFT = 3.0
STD = 0.02
TAESD3 = {"latent_channels": 16}
"""All else is as AutoencoderTiny has it."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A model to be measured: its architecture, a prompt's tokens, the sides of square tiles.

    draft: configuration of the cheap autoencoder.
    """

    name: str
    architecture: Architecture
    tokens: int
    sides_px: tuple[int, ...]
    draft: Mapping[str, Any]


REAL = tuple(Bench(name, one, TOKENS, (1024, 512), TAESD3) for name, one in PUBLISHED.items())


def dry() -> tuple[Bench, ...]:
    """Small structural copies: every kind of layer, none of the size."""
    medium, vae = PUBLISHED["sd3.5-medium"].transformer, PUBLISHED["sd3.5-medium"].vae
    small_vae = {**vae, "block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4}
    small = {
        **medium,
        "sample_size": 8,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "joint_attention_dim": 32,
        "caption_projection_dim": 32,
        "pooled_projection_dim": 16,
        "pos_embed_max_size": 16,
        "dual_attention_layers": (0,),
    }
    large = {**small, "num_layers": 3, "dual_attention_layers": ()}
    narrow = dict.fromkeys(("encoder_block_out_channels", "decoder_block_out_channels"), (8,) * 4)
    return tuple(
        Bench(name, Architecture(transformer, small_vae), 5, (64, 32), {**TAESD3, **narrow})
        for name, transformer in (("dry-medium", small), ("dry-large", large))
    )


def random_networks(
    architecture: Architecture, device: str, dtype: torch.dtype
) -> tuple[SD3Transformer2DModel, AutoencoderKL]:
    """Make both networks on the device, without ever holding them elsewhere."""
    generator = torch.Generator(device).manual_seed(0)
    networks = architecture.on_meta(dtype)
    for network in networks:
        _randomise(network.to_empty(device=device), generator)
    return networks


def save_checkpoint(folder: Path, networks: Sequence[Any], bench: Bench) -> None:
    """Write a checkpoint in diffusers' format, a draft autoencoder in it; its prompt is noise."""
    for part, network in zip(("transformer", "vae"), networks, strict=True):
        network.save_pretrained(folder / part)
    draft = AutoencoderTiny(**bench.draft).requires_grad_(False)
    _randomise(draft, torch.Generator().manual_seed(0))
    draft.save_pretrained(folder / "vae_draft")
    FlowMatchEulerDiscreteScheduler(shift=SHIFT).save_pretrained(folder / "scheduler")
    empty = empty_prompt(bench)
    tensors = {"prompt_embeds": empty.context[None], "pooled_prompt_embeds": empty.pooled[None]}
    save_file(tensors, folder / "empty_prompt.safetensors")


def _randomise(network: torch.nn.Module, generator: torch.Generator) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            tensor.normal_(0, STD, generator=generator)
        else:
            tensor.fill_(1 if name.endswith("weight") else 0)


def empty_prompt(bench: Bench) -> PromptEmbeddings:
    """Noise in place of the embeddings of the empty prompt."""
    config = bench.architecture.transformer
    generator = torch.Generator().manual_seed(1)
    return PromptEmbeddings(
        torch.randn(bench.tokens, config["joint_attention_dim"], generator=generator),
        torch.randn(config["pooled_projection_dim"], generator=generator),
    )


def as_we_run_it(folder: Path, device: str, dtype: torch.dtype) -> SRModel:
    """Load a checkpoint as our service does; what it is compared with is `StockModel`."""
    model = load_model(str(folder), device=device, dtype=str(dtype).removeprefix("torch."))
    if model.device.type == "cuda":
        compile_networks(model)
    return model


class StockModel:
    """Diffusers' own modules, run eagerly as they come, behind the interface of our engine."""

    def __init__(self, networks: Sequence[Any], bench: Bench) -> None:
        self.transformer, self.vae = networks
        weight = next(self.transformer.parameters())
        self._place, self._dtype = weight.device, weight.dtype
        self._config, config = self.vae.config, self.transformer.config
        factor = 2 ** (len(self._config.block_out_channels) - 1)
        self.info = ModelInfo(
            name=bench.name,
            native_px=config.sample_size * factor,
            vae_factor=factor,
            multiple_px=config.patch_size * factor,
            latent_channels=self._config.latent_channels,
            shift=SHIFT,
            parameters=0,
            memory_bytes=0,
            device=str(weight.device),
            dtype=str(weight.dtype).removeprefix("torch."),
            prompts=False,
            draft=False,
        )
        self.defaults = UpscaleParams()
        self.empty_prompt = empty_prompt(bench).to(weight.device)

    def velocity(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[PromptEmbeddings],
        variant: Variant = Variant.BASE,
    ) -> Tensor:
        """Return the transformer's velocity."""
        found: Tensor = self.transformer(
            latents.to(self._place, self._dtype),
            encoder_hidden_states=torch.stack([p.context.to(self._dtype) for p in prompts]),
            pooled_projections=torch.stack([p.pooled.to(self._dtype) for p in prompts]),
            timestep=1000 * sigmas.to(self._place),
        ).sample
        return found.float()

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        """Return pixels, 0 to 1."""
        raw = latents / self._config.scaling_factor + self._config.shift_factor
        found: Tensor = self.vae.decode(raw.to(self._place, self._dtype)).sample
        return (found.float() + 1) / 2

    def encode(self, pixels: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        """Return latents, the mode."""
        found = self.vae.encode((2 * pixels - 1).to(self._place, self._dtype)).latent_dist.mode()
        result: Tensor = (found.float() - self._config.shift_factor) * self._config.scaling_factor
        return result

    def encode_prompt(self, prompt: str) -> PromptEmbeddings:
        """Return what the empty prompt gives."""
        return self.empty_prompt

    def release_float32(self) -> None:
        """Do nothing: there are none."""
