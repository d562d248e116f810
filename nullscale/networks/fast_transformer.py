"""SD3's transformer with its conditioning looked up and its projections fused."""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor, nn

from nullscale.networks.conditioning import Conditioner, Table
from nullscale.networks.fused_attention import fuse
from nullscale.networks.replay import Replayed
from sr_engine.model import PromptEmbeddings

TABLE_BYTES = 2**28
"""What is looked up may take so much of the device: 240 pairs of prompt and noise level of
SD3.5-medium, 110 of -large."""

REPLAYED_TOKENS = 2**13
"""Larger batches keep a GPU busy by themselves; one row of 1024² pixels is smaller, and leaves the
host of an H100 no time to spare."""


class FastTransformer(nn.Module):
    """Equal to the `SD3Transformer2DModel` that it is made of, and uses up.

    Blocks, final norm and projection are diffusers' own. The grid of positions, of which a tile
    sees the middle, stays in the host's memory.

    Attributes:
        config: the transformer's.
        conditioner: makes what the table does not have.
        table: what has been made, on the device.
    """

    def __init__(
        self,
        transformer: SD3Transformer2DModel,
        *,
        table_bytes: int = TABLE_BYTES,
    ) -> None:
        super().__init__()
        self.config = transformer.config
        self.conditioner = Conditioner(transformer)
        self.table = Table(table_bytes)
        self.proj_in = transformer.pos_embed.proj
        self.transformer_blocks = transformer.transformer_blocks
        self.norm_out = transformer.norm_out
        self.proj_out = transformer.proj_out
        side = transformer.pos_embed.pos_embed_max_size
        # No buffer, so that it does not follow the weights to their device.
        self._positions = transformer.pos_embed.pos_embed[0].unflatten(0, (side, side))
        if not self._positions.is_meta:
            self._positions = self._positions.cpu()
        for module in self.transformer_blocks.modules():
            if isinstance(module, Attention):
                fuse(module)
        self._replayed = Replayed(self._velocity)
        self.train(transformer.training)

    def place(self, device: torch.device, *, offload: bool = False) -> "FastTransformer":
        """Move to `device`.

        offload: leave the conditioner in the host's memory, a third of the weights. A pair of
            prompt and noise level that is not in the table then takes the CPU's time.
        """
        for child in self.children():
            if not (offload and child is self.conditioner):
                child.to(device)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """The networks' own."""
        dtype: torch.dtype = self.proj_in.bias.dtype
        return dtype

    def forward(
        self,
        latents: Float[Tensor, "b c h w"],
        timesteps: Sequence[float],
        prompts: Sequence[PromptEmbeddings],
    ) -> Float[Tensor, "b c h w"]:
        """Return the velocity, in the latents' own dtype, which is the networks' too."""
        patch = self.config.patch_size
        height, width = (side // patch for side in latents.shape[-2:])
        rows = zip(prompts, timesteps, strict=True)
        vectors = torch.stack([self._modulation(prompt, time) for prompt, time in rows])
        context = torch.stack([self._context(prompt) for prompt in prompts])
        tokens = len(latents) * (height * width + context.shape[1])
        small = latents.is_cuda and tokens <= REPLAYED_TOKENS
        call = self._replayed if small else self._velocity
        return call(latents, vectors, context, self._grid(height, width))

    def _velocity(self, latents: Tensor, vectors: Any, context: Any, grid: Tensor) -> Tensor:
        patch = self.config.patch_size
        height, width = (side // patch for side in latents.shape[-2:])
        *parts, last = vectors.split(self.conditioner.widths, dim=1)
        x = self.proj_in(latents).flatten(2).transpose(1, 2) + grid
        x = x.contiguous()
        for block, part in zip(self.transformer_blocks, parts, strict=True):
            context, x = block(hidden_states=x, encoder_hidden_states=context, temb=part)
        x = self.proj_out(self.norm_out(x, last))
        x = x.unflatten(2, (patch, patch, -1)).unflatten(1, (height, width))
        velocity: Tensor = x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
        return velocity

    def _modulation(self, prompt: PromptEmbeddings, timestep: float) -> Tensor:
        make = partial(self.conditioner.modulation, prompt, timestep)
        return self._looked_up((id(prompt.pooled), timestep), make, prompt.pooled)

    def _context(self, prompt: PromptEmbeddings) -> Tensor:
        make = partial(self.conditioner.context, prompt)
        return self._looked_up(id(prompt.context), make, prompt.context)

    def _grid(self, height: int, width: int) -> Tensor:
        """Return the middle of the position grid [height · width, d], counted in patches."""
        top, left = ((len(self._positions) - side) // 2 for side in (height, width))
        middle = self._positions[top : top + height, left : left + width]
        return self._looked_up(("grid", height, width), partial(middle.flatten, 0, 1))

    def _looked_up(
        self, key: Hashable, make: Callable[[], Tensor], owner: Tensor | None = None
    ) -> Tensor:
        # A copy, even of what is here already: a view would keep the whole alive.
        here = self.proj_in.weight
        return self.table.look_up(key, lambda: make().to(here, copy=True), owner)
