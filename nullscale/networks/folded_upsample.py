"""Nearest-neighbour doubling and the 3×3 convolution after it, as one transposed convolution."""

from typing import TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn

# On one axis, an even output of the pair sees the input's w0 | w1 + w2, an odd one w0 + w1 | w2.
# A transposed convolution of stride 2 reads its kernel backwards, taps 1, 3 and 2, 0 in turn.
_TAPS = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def plain_3x3(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether `conv` is a convolution of 3×3 taps, stride 1 and a border of zeros."""
    return (
        isinstance(conv, nn.Conv2d)
        and (conv.kernel_size, conv.stride, conv.dilation) == ((3, 3), (1, 1), (1, 1))
        and (conv.padding, conv.padding_mode, conv.groups) == ((1, 1), "zeros", 1)
    )


def fold_upsample(conv: nn.Conv2d) -> nn.ConvTranspose2d:
    """The transposed convolution that equals `conv` after a nearest-neighbour doubling.

    Four products an output pixel and channel instead of nine, and no doubled input to write and
    read. Exact in real numbers, at borders and for a single pixel too: what the doubling repeats,
    the transposed convolution adds up in its weights, in float64 before they are rounded once.
    """
    assert plain_3x3(conv)
    folded = nn.ConvTranspose2d(
        conv.in_channels, conv.out_channels, 4, stride=2, padding=1, device="meta"
    )
    folded.weight = nn.Parameter(folded_weight(conv.weight), requires_grad=False)
    folded.bias = conv.bias
    return folded


@torch.no_grad()
def folded_weight(weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "i o 4 4"]:
    """Weights of the transposed convolution."""
    taps = torch.tensor(_TAPS, dtype=torch.float64, device=weight.device)
    exact = torch.einsum("yk,oikl,xl->ioyx", taps, weight.double(), taps)
    # In the layout of the network's other weights, which decides that of all activations.
    layout = torch.contiguous_format if weight.is_contiguous() else torch.channels_last
    return exact.to(weight.dtype).contiguous(memory_format=layout)
