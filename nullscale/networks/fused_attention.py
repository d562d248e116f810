"""Attention with one projection for query, key and value.

Diffusers' own fused processor leaves out SD3.5's norms of queries and keys, knows no dual
attention, and keeps the separate weights beside the fused ones.
"""

from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn


# Traced into the blocks' graphs, where the tests' checks of annotations cannot follow.
@no_type_check
class FusedAttention:
    """Replaces diffusers' ``JointAttnProcessor2_0`` in a module that `fuse` has changed.

    Through diffusers' dispatcher, which SD3's own processors pass by: by default PyTorch's
    scaled-dot-product attention, which takes the best kernel that it has for the device;
    ``DIFFUSERS_ATTN_BACKEND`` in the environment names another.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
    ) -> Any:
        """Attend over image tokens [b, n, d], and over [b, t, d] of text beside them if given."""
        query, key, value = self._heads(attn, attn.to_qkv(hidden_states), attn.norm_q, attn.norm_k)
        if encoder_hidden_states is not None:
            added = attn.to_added_qkv(encoder_hidden_states)
            text = self._heads(attn, added, attn.norm_added_q, attn.norm_added_k)
            query, key, value = (
                torch.cat(pair, dim=1) for pair in zip((query, key, value), text, strict=True)
            )
        attended = dispatch_attention_fn(query, key, value).flatten(2)
        if encoder_hidden_states is None:
            return attn.to_out[0](attended)
        count = hidden_states.shape[1]
        text_out = attended[:, count:]
        if not attn.context_pre_only:
            text_out = attn.to_add_out(text_out)
        return attn.to_out[0](attended[:, :count]), text_out

    def _heads(
        self, attn: Any, qkv: Tensor, norm_q: Any, norm_k: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Split [b, n, 3·d] into query, key, value [b, n, heads, d/heads], the first two normed."""
        query, key, value = qkv.view(*qkv.shape[:2], 3, attn.heads, -1).unbind(2)
        return self._normed(query, norm_q), self._normed(key, norm_k), value

    def _normed(self, x: Tensor, norm: Any) -> Tensor:
        """Apply diffusers' RMSNorm by PyTorch's own: one kernel, one rounding instead of two."""
        return x if norm is None else F.rms_norm(x, norm.dim, norm.weight, norm.eps)


def fuse(attn: Attention) -> bool:
    """Give `attn` one projection in the place of three; say whether that was possible.

    Quantised weights have layouts of their own, and stay as they are.
    """
    groups = {"to_qkv": ("to_q", "to_k", "to_v")}
    if getattr(attn, "add_q_proj", None) is not None:
        groups["to_added_qkv"] = ("add_q_proj", "add_k_proj", "add_v_proj")
    parts = {fused: [getattr(attn, name) for name in names] for fused, names in groups.items()}
    if not all(_plain(part) for together in parts.values() for part in together):
        return False
    for fused, together in parts.items():
        setattr(attn, fused, _concatenated(together))
        for name in groups[fused]:
            delattr(attn, name)
    attn.set_processor(FusedAttention())
    return True


def _plain(linear: nn.Module) -> bool:
    if type(linear) is not nn.Linear:
        return False
    return type(linear.weight) is nn.Parameter and type(linear.weight.data) is Tensor


def _concatenated(linears: list[nn.Linear]) -> nn.Linear:
    with torch.device("meta"):
        fused = nn.Linear(linears[0].in_features, sum(each.out_features for each in linears))
    fused.weight = nn.Parameter(torch.cat([each.weight for each in linears]), requires_grad=False)
    fused.bias = nn.Parameter(torch.cat([each.bias for each in linears]), requires_grad=False)
    return fused
