"""The autoencoder's residual block without the passes over memory that change nothing."""

from typing import no_type_check

import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from jaxtyping import Float
from torch import Tensor, nn


# Traced into graphs, where the tests' checks of annotations cannot follow.
@no_type_check
class NormedSiLU(nn.Module):
    """GroupNorm and SiLU one after the other; the second works in place on what the first made."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The activations."""
        return F.silu(self.norm(x), inplace=True)


@no_type_check
class FastResnetBlock(nn.Module):
    """A `ResnetBlock2D` without time embedding; its weights are the block's own.

    Raises:
        AssertionError: the block is not `rewritable`.
    """

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        assert rewritable(block)
        self.norm1, self.conv1 = NormedSiLU(block.norm1), block.conv1
        self.norm2, self.conv2 = NormedSiLU(block.norm2), block.conv2
        self.conv_shortcut = block.conv_shortcut

    def forward(
        self, x: Float[Tensor, "b i h w"], temb: Tensor | None = None
    ) -> Float[Tensor, "b o h w"]:
        """The block's sum; `temb` is None, as autoencoders call it."""
        hidden = self.conv2(self.norm2(self.conv1(self.norm1(x))))
        # diffusers adds into new memory, and divides by one into newer still.
        result: Tensor = hidden.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))
        return result


def rewritable(block: nn.Module) -> bool:
    """Whether `FastResnetBlock` computes the same."""
    return (
        isinstance(block, ResnetBlock2D)
        and block.time_emb_proj is None
        and block.time_embedding_norm == "default"
        and block.upsample is None
        and block.downsample is None
        and block.output_scale_factor == 1
        and block.dropout.p == 0
        and isinstance(block.nonlinearity, nn.SiLU)
    )
