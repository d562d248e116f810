"""Rewritten autoencoders against diffusers' own, module by module and whole."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch
import torch.nn.functional as F
from checkpoints import write_checkpoint
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from tape import Tape
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nullscale.networks.autoencoder import REPLAYED_PIXELS, Autoencoder
from nullscale.networks.fast_resnet import FastResnetBlock, NormedSiLU, rewritable
from nullscale.networks.fast_vae import faster
from nullscale.networks.folded_upsample import fold_upsample, folded_weight
from nullscale.networks.loading import load_model
from nullscale.networks.memory import peak_bytes
from nullscale.networks.published import PUBLISHED
from nullscale.networks.winograd import WinogradConv
from nullscale.scheduling.work import Variant

LATENT_CHANNELS = 4
SD35_VAE = dict(PUBLISHED["sd3.5-medium"].vae)
SIDES = [(1, 1), (1, 5), (3, 2), (7, 11), (16, 9)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
"""Of the network's weights and of what it is given."""

Module = TypeVar("Module", bound=nn.Module)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_upsampling_is_the_doubling_and_the_convolution(
    sides: tuple[int, int], bias: bool
) -> None:
    conv = randomised(nn.Conv2d(6, 5, 3, padding=1, bias=bias)).double()
    x = noise(2, 6, *sides).double()
    expected = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(fold_upsample(conv)(x), expected, atol=1e-12, rtol=0)
    conv, x = conv.float(), x.float()
    torch.testing.assert_close(fold_upsample(conv)(x).double(), expected, atol=1e-5, rtol=0)


def test_folded_weights_are_rounded_once() -> None:
    weight = noise(3, 2, 3, 3)
    exact = folded_weight(weight.bfloat16().double())
    assert torch.equal(folded_weight(weight.bfloat16()), exact.bfloat16())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [(8, 8), (8, 12)])
@pytest.mark.parametrize("sides", SIDES)
def test_a_residual_block(
    sides: tuple[int, int], channels: tuple[int, int], layout: torch.memory_format
) -> None:
    before, after = channels
    block = randomised(
        ResnetBlock2D(in_channels=before, out_channels=after, temb_channels=None, groups=4)
    ).to(memory_format=layout)
    x = 3 * noise(2, before, *sides).contiguous(memory_format=layout) + 1
    given = x.clone()
    torch.testing.assert_close(FastResnetBlock(block)(x), block(x, None), atol=1e-5, rtol=1e-5)
    assert torch.equal(x, given), "the skipped part is the caller's"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("groups", [1, 2, 32])
def test_norm_and_activation(groups: int, layout: torch.memory_format) -> None:
    norm = randomised(nn.GroupNorm(groups, 32, eps=1e-6))
    x = (3 * noise(3, 32, 9, 5) + 1).contiguous(memory_format=layout)
    torch.testing.assert_close(NormedSiLU(norm)(x), F.silu(norm(x)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("quant_conv", [True, False])
def test_a_whole_autoencoder(
    quant_conv: bool, attention: bool, sides: tuple[int, int], layout: torch.memory_format
) -> None:
    stock = small_vae(quant_conv, attention).to(memory_format=layout)
    fast = faster(stock)
    assert not any(isinstance(module, ResnetBlock2D | Attention) for module in fast.modules())
    z = noise(2, LATENT_CHANNELS, *sides)
    close(fast.decode(z).sample, stock.decode(z).sample)
    # A few pixels more than the latents' own, so that the borders of every stage are odd somewhere.
    x = noise(2, 3, 4 * sides[0] + 3, 4 * sides[1] + 2)
    close(fast.encode(x).latent_dist.parameters, stock.encode(x).latent_dist.parameters)


@pytest.mark.parametrize("quant_conv", [True, False])
@pytest.mark.parametrize("way", ["decode", "encode"])
@pytest.mark.parametrize("sides", [(7, 11), (13, 10), (12, 16)])
def test_in_bfloat16_no_farther_from_float32_than_diffusers(
    sides: tuple[int, int], way: str, quant_conv: bool
) -> None:
    exact = small_vae(quant_conv, attention=True)
    half = small_vae(quant_conv, attention=True).bfloat16()
    pixels = 4 * sides[0] + 3, 4 * sides[1] + 2
    given = noise(8, LATENT_CHANNELS, *sides) if way == "decode" else noise(8, 3, *pixels)
    call = decoded if way == "decode" else encoded
    expected = call(exact, given)
    scale = expected.std()
    stock_error = (call(half, given.bfloat16()).float() - expected).square().mean().sqrt() / scale
    fast_error = (call(faster(half), given.bfloat16()).float() - expected).square().mean().sqrt()
    assert 1e-4 < stock_error < 0.05
    assert fast_error / scale < 1.3 * stock_error


@pytest.mark.parametrize("sides", SIDES)
def test_wide_layers_multiply_less_in_float32_on_a_cpu(sides: tuple[int, int]) -> None:
    stock = small_vae(quant_conv=True, attention=True, channels=(8, 64, 128))
    fast = faster(stock)
    assert winograds(fast.encoder) and winograds(fast.decoder)
    z = noise(2, LATENT_CHANNELS, *sides)
    close(fast.decode(z).sample, stock.decode(z).sample)
    x = noise(2, 3, 4 * sides[0] + 3, 4 * sides[1] + 2)
    close(fast.encode(x).latent_dist.parameters, stock.encode(x).latent_dist.parameters)
    assert not winograds(faster(stock.bfloat16()))


@pytest.mark.parametrize("sides", SIDES)
def test_a_tiny_autoencoder(sides: tuple[int, int]) -> None:
    stock = small_tiny()
    fast = faster(stock)
    z = 2 * noise(2, LATENT_CHANNELS, *sides)
    close(fast.decode(z).sample, stock.decode(z).sample)
    x = noise(2, 3, 4 * sides[0] + 3, 4 * sides[1] + 2)
    close(fast.encode(x).latents, stock.encode(x).latents)
    assert not any(isinstance(module, nn.Upsample) for module in fast.modules())


def test_the_original_stays_as_it_was_and_its_weights_are_shared() -> None:
    stock = small_vae(quant_conv=True, attention=True)
    kinds = [type(module) for module in stock.modules()]
    weights = {name: weight.clone() for name, weight in stock.state_dict().items()}
    z = noise(1, LATENT_CHANNELS, 3, 4)
    before = stock.decode(z).sample
    fast = faster(stock)
    fast.decode(z)
    assert [type(module) for module in stock.modules()] == kinds
    assert torch.equal(stock.decode(z).sample, before)
    assert all(torch.equal(stock.state_dict()[name], weights[name]) for name in weights)
    own = {id(p) for p in fast.parameters()} - {id(p) for p in stock.parameters()}
    # Two doublings; weight and bias of the fused projection, in the encoder and in the decoder.
    assert len(own) == 2 + 2 * 2


def test_what_is_of_another_shape_stays() -> None:
    blocks = [
        ResnetBlock2D(in_channels=8, temb_channels=16, groups=4),
        ResnetBlock2D(in_channels=8, temb_channels=None, groups=4, output_scale_factor=2.0),
        ResnetBlock2D(in_channels=8, temb_channels=None, groups=4, non_linearity="mish"),
        ResnetBlock2D(in_channels=8, temb_channels=None, groups=4, dropout=0.1),
        ResnetBlock2D(in_channels=8, temb_channels=None, groups=4, up=True),
    ]
    assert not any(rewritable(block) for block in blocks)
    smooth = small_tiny(upsample_fn="bilinear")
    z = noise(1, LATENT_CHANNELS, 3, 4)
    close(faster(smooth).decode(z).sample, smooth.decode(z).sample)


@pytest.mark.parametrize(
    ("way", "fewer"), [("decode", 0.14), ("encode", 0.0)], ids=["decode", "encode"]
)
def test_operations_at_the_published_size(way: str, fewer: float) -> None:
    with torch.device("meta"):
        stock = AutoencoderKL(**SD35_VAE).requires_grad_(False)
        given = torch.empty(1, 16, 128, 128) if way == "decode" else torch.empty(1, 3, 1024, 1024)
    call = decoded if way == "decode" else encoded
    before, after = (operations(call, network, given) for network in (stock, faster(stock)))
    assert after <= (1 - fewer) * before


def test_one_graph_a_part() -> None:
    """In a process of its own: the checks of shapes that tests add are no part of the graph.

    Channels-last, as `Autoencoder` has them.
    """
    code = """
import torch
from test_fast_vae import *
layout = torch.channels_last
for stock in (small_vae(True, True), small_vae(False, False), small_tiny()):
    network = faster(stock.to(memory_format=layout))
    z, x = noise(1, LATENT_CHANNELS, 4, 6), noise(1, 3, 16, 24)
    for part, given in ((network.decoder, z), (network.encoder, x)):
        given = given.contiguous(memory_format=layout)
        compiled = torch.compile(part, backend="aot_eager", fullgraph=True)
        with torch.no_grad():
            close(compiled(given), part(given))
"""
    here, tests = Path(__file__).parent, Path(__file__).parents[2]
    paths = ":".join(map(str, (tests.parent, tests, here)))
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": paths}, timeout=300)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("way", ["decode", "encode"])
def test_memory_of_a_row_is_within_the_estimate(way: str, fast: bool) -> None:
    with torch.device("meta"):
        network = AutoencoderKL(**SD35_VAE).requires_grad_(False).bfloat16()
        autoencoder = Autoencoder(network, fast=fast)
        given = torch.empty(1, 16, 128, 128) if way == "decode" else torch.empty(1, 3, 1024, 1024)
    run = autoencoder.decode if way == "decode" else autoencoder.encode
    peak = peak_bytes(lambda: run(given), autoencoder.network)
    estimate = autoencoder.row_bytes(1024 * 1024)
    assert peak <= 1.01 * estimate, "latents and pixels besides"
    if way == "decode":
        assert peak > 0.6 * estimate


def test_a_batch_runs_in_chunks_that_fit_the_budget() -> None:
    network = small_vae(quant_conv=False, attention=True)
    z, x = noise(5, LATENT_CHANNELS, 6, 4), torch.rand(5, 3, 24, 16)
    whole = Autoencoder(network)
    seen: list[int] = []
    for part in (network.encoder, network.decoder):
        part.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    chunked = Autoencoder(network, fast=False, budget_bytes=2 * whole.row_bytes(24 * 16))
    close(chunked.decode(z), whole.decode(z))
    close(chunked.encode(x), whole.encode(x))
    assert seen == 2 * [2, 2, 1]
    seen.clear()
    Autoencoder(network, fast=False, budget_bytes=1).decode(z)
    assert seen == 5 * [1], "a row is the least"


@pytest.mark.parametrize("kind", ["kl", "tiny"])
def test_small_batches_are_replayed_each_way(kind: str) -> None:
    network = small_vae(quant_conv=True, attention=True) if kind == "kl" else small_tiny()
    plain, tape = Autoencoder(network), Tape()
    assert plain.record is None, "not on a CPU"
    replayed = Autoencoder(network, record=tape)
    for step in range(3):
        for sides in ((6, 4), (5, 7)):
            z = (1 + step) * noise(2, LATENT_CHANNELS, *sides)
            close(replayed.decode(z), plain.decode(z))
            x = torch.sigmoid(plain.decode(z))
            close(replayed.encode(x), plain.encode(x))
    assert len(tape.recorded) == len(set(tape.recorded)) == 2 * 2
    assert replayed.in_float32().record is None


def test_of_large_batches_chunks_alone_are_replayed() -> None:
    network, tape = small_vae(quant_conv=False, attention=False), Tape()
    row = Autoencoder(network).row_bytes(24 * 16)
    replayed = Autoencoder(network, budget_bytes=2 * row, record=tape)
    z = noise(5, LATENT_CHANNELS, 6, 4)
    for _ in range(2):
        close(replayed.decode(z), Autoencoder(network).decode(z))
    # Its second chunk is as large as its first.
    assert [shape[0] for shape in tape.recorded] == [2, 1]
    too_large = torch.rand(1, 3, 516, REPLAYED_PIXELS // 512)
    for _ in range(2):
        replayed.encode(too_large)
    assert len(tape.recorded) == 2


def test_the_switch(tmp_path: Path) -> None:
    folder = str(write_checkpoint(tmp_path))
    fast, stock = (load_model(folder, device="cpu", autoencoder=kind) for kind in ("fast", "stock"))
    assert any(isinstance(m, FastResnetBlock) for m in fast.autoencoder.network.modules())
    assert stock.autoencoder.network is stock.autoencoder.stock
    z = noise(2, LATENT_CHANNELS, 5, 6)
    close(fast.decode(z), stock.decode(z))
    close(fast.encode(torch.sigmoid(fast.decode(z))), stock.encode(torch.sigmoid(stock.decode(z))))
    # What arbitrates when a picture cannot be right owes nothing to the rewriting.
    assert torch.equal(fast.decode(z, Variant.FLOAT32), stock.decode(z))
    assert fast.info.parameters == stock.info.parameters
    assert fast.info.memory_bytes > stock.info.memory_bytes, "folded weights are further ones"


def winograds(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, WinogradConv)]


def small_vae(
    quant_conv: bool, attention: bool, channels: tuple[int, int, int] = (8, 16, 16)
) -> AutoencoderKL:
    """Three stages, a shortcut in each direction."""
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        use_quant_conv=quant_conv,
        use_post_quant_conv=quant_conv,
        mid_block_add_attention=attention,
    )
    return randomised(network)


def small_tiny(upsample_fn: str = "nearest") -> AutoencoderTiny:
    return randomised(
        AutoencoderTiny(
            latent_channels=LATENT_CHANNELS,
            encoder_block_out_channels=(8,) * 3,
            decoder_block_out_channels=(8,) * 3,
            num_encoder_blocks=(1, 2, 1),
            num_decoder_blocks=(1, 2, 0),
            upsample_fn=upsample_fn,
        )
    )


def randomised(module: Module) -> Module:
    """Weights that matter, those of norms and biases included."""
    rng = torch.Generator().manual_seed(5)
    for weight in module.parameters():
        spread = 1 / weight[0].numel() ** 0.5 if weight.ndim > 1 else 0.5
        weight.data = spread * torch.randn(weight.shape, generator=rng) + (weight.ndim == 1)
    return module.requires_grad_(False).eval()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(6))


def decoded(network: AutoencoderKL, z: Tensor) -> Tensor:
    pixels: Tensor = network.decode(z).sample
    return pixels


def encoded(network: AutoencoderKL, x: Tensor) -> Tensor:
    moments: Tensor = network.encode(x).latent_dist.parameters
    return moments


def operations(call: Callable[[nn.Module, Tensor], Tensor], network: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        call(network, x)
    return counter.get_total_flops()


def close(found: Tensor, expected: Tensor) -> None:
    """To 1e-5 of the largest value, as float32 allows; at least of 1."""
    assert found.shape == expected.shape
    limit = 1e-5 * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, atol=limit, rtol=0)
