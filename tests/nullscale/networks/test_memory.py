"""Bytes that are foretold are those that are taken."""

from pathlib import Path

import pytest
import torch
from checkpoints import tiny_transformer, tiny_vae
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from nullscale.commands.fits import kept_bytes
from nullscale.networks.loading import load_model
from nullscale.networks.memory import (
    RESERVED_BYTES,
    fit,
    memory_estimate,
    peak_bytes,
    quantized_estimate,
    row_bytes,
    weight_bytes,
)
from nullscale.networks.published import (
    PUBLISHED,
    TEXT_ENCODER_PARAMETERS,
    TOKENS,
    read_architecture,
)
from nullscale.scheduling.costs import ROW_LIMITS
from nullscale.scheduling.work import Phase
from sr_engine.plan import BYTES_A_PIXEL

ROW = {Phase.DENOISE: 10**9, Phase.DECODE: 3 * 10**9, Phase.ENCODE: 2 * 10**9}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_foretold_from_the_configuration_are_those_in_the_files(
    tiny_checkpoint: Path, dtype: str
) -> None:
    stored = [
        tensor
        for part in ("transformer", "vae")
        for tensor in load_file(
            tiny_checkpoint / part / "diffusion_pytorch_model.safetensors"
        ).values()
    ]
    number = getattr(torch, dtype)
    expected = sum(tensor.numel() for tensor in stored) * number.itemsize
    networks = read_architecture(tiny_checkpoint).on_meta(number)
    assert all(p.is_meta for network in networks for p in network.parameters())
    assert memory_estimate(*networks, dtype=number) == expected
    assert weight_bytes(*networks) == expected
    # Fast networks have weights of their own, and leave the grid of positions to the host.
    model = load_model(
        str(tiny_checkpoint), device="cpu", dtype=dtype, autoencoder="stock", transformer="stock"
    )
    assert model.info.memory_bytes == expected


def test_a_peak_is_what_is_alive_at_the_worst_moment() -> None:
    layers = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 2, bias=False))
    x = torch.zeros(1, 4)
    # Two of the inner eight numbers' four bytes each, while the function between is computed.
    assert peak_bytes(lambda: layers(x), layers) == 2 * 8 * 4
    assert peak_bytes(lambda: x.view(2, 2).t(), layers) == 16, "x itself, and no view of it"
    assert peak_bytes(lambda: [torch.zeros(10) for _ in range(3)]) == 120
    assert peak_bytes(lambda: [torch.zeros(10).sum() for _ in range(3)]) == 52


@pytest.mark.parametrize("side_px", [64, 32])
def test_a_row_on_meta_takes_what_a_real_one_does(side_px: int) -> None:
    with torch.device("meta"):
        foretold = row_bytes(tiny_transformer(), tiny_vae(), side_px, tokens=5)
    transformer, vae = tiny_transformer(), tiny_vae()
    cells = side_px // 4
    latents = torch.zeros(2, 4, cells, cells)
    prompt = torch.zeros(2, 5, 32), torch.zeros(2, 24)
    taken = {
        Phase.DENOISE: peak_bytes(
            lambda: transformer(latents, *prompt, torch.ones(2)), transformer
        ),
        Phase.DECODE: peak_bytes(lambda: vae.decode(latents), vae),
        Phase.ENCODE: peak_bytes(lambda: vae.encode(torch.zeros(2, 3, side_px, side_px)), vae),
    }
    for phase, one in foretold.items():
        # Two rows of a real network; what is the same for all rows is the difference.
        assert taken[phase] == pytest.approx(2 * one, rel=0.1), phase


def test_three_blocks_take_as_much_as_all_of_them() -> None:
    medium = PUBLISHED["sd3.5-medium"]
    (deep, vae), (shallow, _) = (one.on_meta(torch.bfloat16) for one in (medium, medium.shallow()))
    assert len(shallow.transformer_blocks) == 3
    whole = row_bytes(deep, vae, 256)
    assert row_bytes(shallow, vae, 256) == whole


@pytest.mark.parametrize(("quantize", "expected"), [("fp8", 100 * 60), ("nf4", 50 * 60)])
def test_quantised_layers_keep_their_biases(quantize: str, expected: int) -> None:
    layers = nn.Sequential(nn.Linear(100, 60), nn.LayerNorm(60)).to(device="meta")
    scales = {"fp8": 60, "nf4": 94}[quantize]
    others = 3 * 60 * 2
    assert quantized_estimate(layers, torch.bfloat16, quantize) == expected + 4 * scales + others
    assert quantized_estimate(layers, torch.bfloat16, None) == 2 * 6000 + others


def test_what_fits_fits() -> None:
    native = 1024**2
    found = [
        fit(gb * 10**9, 5 * 10**9, ROW, ROW_LIMITS, least_pixels=native) for gb in range(1, 99)
    ]
    first = next(i for i, one in enumerate(found) if one is not None)
    assert all(one is None for one in found[:first])
    assert found[first] is not None and found[first].rows[Phase.DECODE] == 1
    for gb, one in enumerate(found[first:], first + 1):
        assert one is not None
        assert all(n & (n - 1) == 0 and n <= ROW_LIMITS[p] for p, n in one.rows.items())
        batch = max(n * ROW[phase] for phase, n in one.rows.items())
        pictures = one.megapixels * 1e6 * BYTES_A_PIXEL
        assert one.megapixels * 1e6 >= native
        assert 5e9 + RESERVED_BYTES + batch + pictures == pytest.approx(gb * 1e9)
    last = found[-1]
    assert last is not None and last.rows == ROW_LIMITS


def test_conditioning_and_graphs_are_counted() -> None:
    transformer, vae = PUBLISHED["sd3.5-medium"].on_meta(torch.bfloat16)
    # 64 · 64 patches of a tile of 1024² pixels, and a prompt.
    row = {**ROW, Phase.DENOISE: (4096 + TOKENS) * 1000}
    kept = {
        quantize: kept_bytes(transformer, vae, row, tokens=TOKENS, quantize=quantize)
        for quantize in (None, "fp8")
    }
    # Three activations of 256 channels, two bytes each, at 512² pixels.
    assert kept["fp8"] == 3 * 256 * 2 * 512**2
    assert kept[None] - kept["fp8"] == 2**28 + 8192 * 1000


def test_the_large_model_needs_fewer_bits_for_24_gb() -> None:
    dtype = torch.bfloat16
    transformer, vae = PUBLISHED["sd3.5-large"].on_meta(dtype)
    decoder = memory_estimate(vae, dtype=dtype)
    gb = {
        quantize: (decoder + quantized_estimate(transformer, dtype, quantize)) / 1e9
        for quantize in (None, "fp8", "nf4")
    }
    assert gb == pytest.approx({None: 16.5, "fp8": 8.4, "nf4": 4.9}, rel=0.03)


def test_the_text_encoders_have_the_parameters_that_are_told() -> None:
    clip = {"hidden_act": "gelu", "vocab_size": 49408, "max_position_embeddings": 77}
    small = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    large = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 20}
    t5 = T5Config(
        vocab_size=32128,
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=24,
        num_heads=64,
        feed_forward_proj="gated-gelu",
    )
    with torch.device("meta"):
        encoders = {
            "CLIP-L": CLIPTextModelWithProjection(
                CLIPTextConfig(**clip, **small, intermediate_size=3072, projection_dim=768)
            ),
            "CLIP-G": CLIPTextModelWithProjection(
                CLIPTextConfig(**clip, **large, intermediate_size=5120, projection_dim=1280)
            ),
            "T5-XXL": T5EncoderModel(t5),
        }
    found = {name: sum(p.numel() for p in one.parameters()) for name, one in encoders.items()}
    assert found == TEXT_ENCODER_PARAMETERS
