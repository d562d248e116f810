"""The autoencoder's attention: one head as wide as the activations, over all of their places."""

from types import ModuleType

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor, nn

from nullscale.networks.fast_norm import normed, on_kernels

_SCORES_BYTES = 2**28
_MOST_PLACES = 2**14
"""A row of scores is in a processor's registers; so many are a tile of 1024² pixels."""


class FastAttention(nn.Module):
    """An autoencoder's `Attention` that is `plain`; its weights are the module's own, fused."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        assert plain(attention)
        self.norm, self.to_qkv = attention.group_norm, attention.to_qkv
        self.to_out = attention.to_out[0]

    def forward(self, x: Float[Tensor, "b c h w"], temb: Tensor | None = None) -> Tensor:
        """The sum of `x` and what it attends to; `temb` is None, as autoencoders call it."""
        # Channels last: places by channels without a copy.
        hidden = normed(x, self.norm, silu=False).permute(0, 2, 3, 1).flatten(1, 2)
        query, key, value = self.to_qkv(hidden).chunk(3, dim=-1)
        kernels = on_kernels(x, self.norm)
        if kernels is None or hidden.shape[1] > _MOST_PLACES or x.dtype == torch.float32:
            found = F.scaled_dot_product_attention(*(t[:, None] for t in (query, key, value)))[:, 0]
        else:
            found = _attended(kernels, query, key, value)
        seen: Tensor = self.to_out(found).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        return seen.add_(x)


def plain(attention: nn.Module) -> bool:
    """Whether `FastAttention` computes the same."""
    return (
        isinstance(attention, Attention)
        and attention.heads == 1
        and attention.group_norm is not None
        and attention.spatial_norm is None
        and attention.residual_connection
        and attention.rescale_output_factor == 1
        and getattr(attention, "fused_projections", False)
    )


def _attended(kernels: ModuleType, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of a head wider than PyTorch's fast kernels know, by two products.

    The scores are float32 as in those, and made for some of the queries at a time.
    """
    scale = query.shape[-1] ** -0.5
    rows = max(1, _SCORES_BYTES // (4 * key.shape[0] * key.shape[1]))
    found = torch.empty_like(query)
    parts = torch.split(query, rows, dim=1), torch.split(found, rows, dim=1)
    for part, out in zip(*parts, strict=True):
        scores = torch.bmm(part, key.mT, out_dtype=torch.float32)
        out.copy_(torch.bmm(kernels.softmax(scores, scale, value.dtype), value))
    return found
