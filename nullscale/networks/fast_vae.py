"""The same autoencoder in fewer operations: rewritten modules around the checkpoint's own weights.

Equal to diffusers' own to the last bits of float32: its tests compare them, ``docs/engine.md`` has
the gain. On CUDA the passes between the convolutions are our own
kernels: torch.compile's took twice as long, and a graph for each shape.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import TypeVar

from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import Decoder, DecoderTiny, Encoder
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn

from nullscale.networks.fast_attention import FastAttention, plain
from nullscale.networks.fast_resnet import FastResnetBlock, NormedSiLU, rewritable
from nullscale.networks.folded_upsample import fold_upsample, plain_3x3
from nullscale.networks.winograd import WinogradConv, worthwhile

Network = TypeVar("Network", bound=nn.Module)


def faster(network: Network) -> Network:
    """A copy of an AutoencoderKL or AutoencoderTiny that gives the same in less time.

    For inference only, on the device and in the dtype that `network` has. It shares its weights,
    but for those that differ: of the convolutions after a doubling, of those that are Winograd's,
    and of the attention's one projection instead of three. A module of another shape than the
    published checkpoints have stays as it is.
    """
    shared = {id(weight): weight for weight in (*network.parameters(), *network.buffers())}
    copy = deepcopy(network, shared)
    _rewrite(copy)
    if isinstance(copy, AutoencoderKL) and copy.attn_processors:
        copy.fuse_qkv_projections()
        for block in (copy.encoder.mid_block, copy.decoder.mid_block):
            for number, attention in enumerate(block.attentions):
                if plain(attention):
                    block.attentions[number] = FastAttention(attention)
    return copy.requires_grad_(False)


def _rewrite(module: nn.Module) -> None:
    if isinstance(module, DecoderTiny):
        module.layers = nn.Sequential(*_folded(list(module.layers)))
    for name, child in module.named_children():
        if isinstance(child, Upsample2D) and _doubles_and_convolves(child):
            setattr(module, name, fold_upsample(child.conv))
        elif isinstance(child, ResnetBlock2D) and rewritable(child):
            _rewrite(child)
            setattr(module, name, FastResnetBlock(child))
        elif worthwhile(child):
            setattr(module, name, WinogradConv(child))
        elif isinstance(child, nn.ReLU):
            # Of sums and convolutions, which nobody else needs.
            child.inplace = True
        else:
            _rewrite(child)
    if isinstance(module, Encoder | Decoder) and isinstance(module.conv_norm_out, nn.GroupNorm):
        module.conv_norm_out = NormedSiLU(module.conv_norm_out)
        module.conv_act = nn.Identity()


def _doubles_and_convolves(module: Upsample2D) -> bool:
    plain = module.norm is None and module.interpolate and not module.use_conv_transpose
    return plain and module.use_conv and module.name == "conv" and plain_3x3(module.conv)


def _folded(layers: list[nn.Module]) -> Iterator[nn.Module]:
    """Layers with every doubling folded into the convolution after it."""
    pairs = iter(zip(layers, [*layers[1:], nn.Identity()], strict=True))
    for layer, following in pairs:
        if (
            isinstance(layer, nn.Upsample)
            and (layer.mode, layer.scale_factor) == ("nearest", 2)
            and plain_3x3(following)
        ):
            yield fold_upsample(following)
            next(pairs)
        else:
            yield layer
