"""Stable Diffusion 3.5 by its published configurations: its networks' sizes without its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from torch import nn

from nullscale.networks.checkpoint import read_config

_MEDIUM: Mapping[str, Any] = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}
_LARGE: Mapping[str, Any] = {
    **_MEDIUM,
    "num_layers": 38,
    "num_attention_heads": 38,
    "caption_projection_dim": 2432,
    "pos_embed_max_size": 192,
    "dual_attention_layers": (),
}
_VAE: Mapping[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "sample_size": 1024,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}

TEXT_ENCODER_PARAMETERS: Mapping[str, int] = {
    "CLIP-L": 123_650_304,
    "CLIP-G": 694_659_840,
    "T5-XXL": 4_762_310_656,
}
"""Of the three that SD3.5 has, projections included."""

TOKENS = 77 + 256
"""Of a prompt: CLIP's and T5's."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """Configurations of a model's two networks, as their ``config.json`` has them."""

    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]

    def shallow(self) -> "Architecture":
        """The same with three transformer blocks: one row takes as much memory, and counts faster.

        A block's activations are gone when the next begins.
        """
        transformer = {
            **self.transformer,
            "num_layers": min(3, self.transformer["num_layers"]),
            "dual_attention_layers": tuple(
                n for n in self.transformer.get("dual_attention_layers", ()) if n < 2
            ),
        }
        return Architecture(transformer, self.vae)

    def on_meta(self, dtype: torch.dtype) -> tuple[SD3Transformer2DModel, AutoencoderKL]:
        """Make both networks without memory for their weights."""
        with torch.device("meta"):
            transformer = SD3Transformer2DModel.from_config(dict(self.transformer))
            vae = AutoencoderKL.from_config(dict(self.vae))
        for network in (transformer, vae):
            # Diffusers' own `to` warns of layers to keep in float32, of which there are none.
            nn.Module.to(network, dtype).requires_grad_(False).eval()
        return transformer, vae


PUBLISHED: Mapping[str, Architecture] = {
    "sd3.5-medium": Architecture(_MEDIUM, _VAE),
    "sd3.5-large": Architecture(_LARGE, _VAE),
}


def read_architecture(folder: Path) -> Architecture:
    """What a checkpoint's own configurations say; its weights need not be there.

    Raises:
        ModelLoadError: one of them is missing or of another class.
    """
    return Architecture(
        transformer=read_config(folder, "transformer/config.json", "SD3Transformer2DModel"),
        vae=read_config(folder, "vae/config.json", "AutoencoderKL"),
    )
