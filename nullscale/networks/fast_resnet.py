"""The autoencoder's residual block without the passes over memory that change nothing."""

import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from jaxtyping import Float
from torch import Tensor, nn

from nullscale.networks.fast_norm import normed, on_kernels


class NormedSiLU(nn.Module):
    """GroupNorm and SiLU."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The activations."""
        return normed(x, self.norm, silu=True)


class FastResnetBlock(nn.Module):
    """A `ResnetBlock2D` without time embedding; its weights are the block's own.

    Raises:
        AssertionError: the block is not `rewritable`.
    """

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        assert rewritable(block)
        self.norm1, self.conv1 = block.norm1, block.conv1
        self.norm2, self.conv2 = block.norm2, block.conv2
        self.conv_shortcut = block.conv_shortcut

    def forward(
        self, x: Float[Tensor, "b i h w"], temb: Tensor | None = None
    ) -> Float[Tensor, "b o h w"]:
        """The block's sum; `temb` is None, as autoencoders call it."""
        kernels = on_kernels(x, self.norm1, self.norm2)
        if kernels is None:
            hidden = self.conv1(normed(x, self.norm1, silu=True))
            hidden = self.conv2(normed(hidden, self.norm2, silu=True))
            # diffusers adds into new memory, and divides by one into newer still.
            result: Tensor = hidden.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))
            return result
        # On CUDA a bias is a pass of its own, so that what comes next takes it along.
        hidden = _without_bias(self.conv1, kernels.norm(x, self.norm1, None, silu=True))
        hidden = kernels.norm(hidden, self.norm2, self.conv1.bias, silu=True)
        hidden, bias = _without_bias(self.conv2, hidden), self.conv2.bias
        if self.conv_shortcut is not None:
            x, bias = _without_bias(self.conv_shortcut, x), bias + self.conv_shortcut.bias
        summed: Tensor = kernels.add_(hidden, x, bias)
        return summed


def _without_bias(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, stride=conv.stride, padding=conv.padding)


def rewritable(block: nn.Module) -> bool:
    """Whether `FastResnetBlock` computes the same."""
    return (
        isinstance(block, ResnetBlock2D)
        and block.time_emb_proj is None
        and block.time_embedding_norm != "scale_shift"
        and block.upsample is None
        and block.downsample is None
        and block.output_scale_factor == 1
        and block.dropout.p == 0
        and isinstance(block.nonlinearity, nn.SiLU)
        and not (block.conv_shortcut is not None and block.conv_shortcut.bias is None)
    )
