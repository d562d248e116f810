"""The networks against diffusers, row by row, and the published sizes of SD3.5."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from checkpoints import (
    CONTEXT_DIM,
    LATENT_CHANNELS,
    NATIVE_PX,
    POOLED_DIM,
    tiny_draft,
    write_checkpoint,
)
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
)
from torch import Tensor

from nullscale.errors import ModelLoadError, PromptUnsupported
from nullscale.maths.params import UpscaleParams
from nullscale.networks.loading import Transformer, load_model
from nullscale.networks.memory import memory_estimate
from nullscale.networks.model import SRModel
from nullscale.networks.published import PUBLISHED
from nullscale.scheduling.work import Variant
from sr_engine.model import PromptEmbeddings


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> SRModel:
    return load_model(str(tiny_checkpoint), device="cpu")


@pytest.fixture(scope="module")
def vae(tiny_checkpoint: Path) -> AutoencoderKL:
    """The same autoencoder, read by diffusers alone."""
    return AutoencoderKL.from_pretrained(tiny_checkpoint / "vae").requires_grad_(False)


@pytest.fixture(scope="module")
def transformer(tiny_checkpoint: Path) -> SD3Transformer2DModel:
    return SD3Transformer2DModel.from_pretrained(tiny_checkpoint / "transformer").requires_grad_(
        False
    )


def test_info_tells_what_the_configuration_says(model: SRModel, tiny_checkpoint: Path) -> None:
    info = model.info
    assert (info.native_px, info.vae_factor, info.multiple_px) == (NATIVE_PX, 4, 8)
    assert info.latent_channels == LATENT_CHANNELS
    assert (info.name, info.device, info.dtype) == (tiny_checkpoint.name, "cpu", "float32")
    assert not info.prompts
    on_disk = sum(
        (tiny_checkpoint / part / "diffusion_pytorch_model.safetensors").stat().st_size
        for part in ("transformer", "vae")
    )
    grid = 4 * 24**2 * 32  # of positions, on the host
    assert info.memory_bytes == pytest.approx(on_disk - grid, rel=0.1)
    assert info.parameters * 4 <= info.memory_bytes


def test_encode_is_the_mode_with_the_shift_subtracted(model: SRModel, vae: AutoencoderKL) -> None:
    pixels = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    mode = vae.encode(2 * pixels - 1).latent_dist.mode()
    shift, scale = vae.config.shift_factor, vae.config.scaling_factor

    latents = model.encode(pixels)

    assert latents.shape == (2, LATENT_CHANNELS, 8, 12)
    torch.testing.assert_close(latents, (mode - shift) * scale)
    assert (latents - (mode + shift) * scale).abs().min() > 0.5, "the seed adds the shift"


def test_decode_undoes_shift_and_scale_and_does_not_clip(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    vae = AutoencoderKL.from_pretrained(folder / "vae").requires_grad_(False)
    vae.decoder.conv_out.weight.mul_(10)  # to leave the range, so that clipping would show
    vae.save_pretrained(folder / "vae")
    raw = torch.randn(2, LATENT_CHANNELS, 8, 12, generator=torch.Generator().manual_seed(2))
    expected = (vae.decode(raw).sample + 1) / 2

    latents = (raw - vae.config.shift_factor) * vae.config.scaling_factor
    pixels = load_model(str(folder), device="cpu").decode(latents)

    assert pixels.shape == (2, 3, 32, 48)
    assert expected.min() < 0 and expected.max() > 1
    torch.testing.assert_close(pixels, expected, atol=1e-4, rtol=1e-4)


def test_velocity_is_the_transformers_at_a_thousand_times_sigma(
    model: SRModel, transformer: SD3Transformer2DModel
) -> None:
    x, (prompt,) = latents(1), prompts(1)
    expected = transformer(
        x,
        encoder_hidden_states=prompt.context[None],
        pooled_projections=prompt.pooled[None],
        timestep=torch.tensor([625.0]),
    ).sample
    torch.testing.assert_close(model.velocity(x, torch.tensor([0.625]), [prompt]), expected)


@pytest.mark.parametrize("kind", get_args(Transformer))
def test_every_kind_of_transformer_is_the_same_one(
    kind: Transformer, tiny_checkpoint: Path, model: SRModel
) -> None:
    x, sigmas, rows = latents(4), torch.tensor([1.0, 0.7, 0.7, 0.02]), prompts(4)
    other = load_model(str(tiny_checkpoint), device="cpu", transformer=kind)
    expected = model.velocity(x, sigmas, rows)
    for variant in (Variant.BASE, Variant.FLOAT32):
        torch.testing.assert_close(
            other.velocity(x, sigmas, rows, variant), expected, atol=1e-5, rtol=1e-5
        )


def test_rows_with_different_sigmas_and_prompts_equal_the_same_rows_alone(model: SRModel) -> None:
    x, sigmas, rows = latents(4), torch.tensor([1.0, 0.7, 0.7, 0.02]), prompts(4)
    together = model.velocity(x, sigmas, rows)
    for i in range(4):
        alone = model.velocity(x[i : i + 1], sigmas[i : i + 1], rows[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=0)
    # The comparison means something only if sigma and prompt matter.
    swapped = model.velocity(x, sigmas, rows[::-1])
    assert (together - swapped).abs().amax() > 1e-3
    assert (together - model.velocity(x, sigmas.flip(0), rows)).abs().amax() > 1e-3


@pytest.mark.parametrize("sides", [(4, 4), (16, 10), (24, 24)])
def test_sides_other_than_the_native_ones(model: SRModel, sides: tuple[int, int]) -> None:
    x = torch.zeros(1, LATENT_CHANNELS, *sides)
    assert model.velocity(x, torch.ones(1), [model.empty_prompt]).shape == x.shape
    pixels = model.decode(x)
    assert pixels.shape == (1, 3, 4 * sides[0], 4 * sides[1])
    assert model.encode(pixels).shape == x.shape


def test_bfloat16_inside_float32_outside(tiny_checkpoint: Path, model: SRModel) -> None:
    half = load_model(str(tiny_checkpoint), device="cpu", dtype="bfloat16")
    x, sigmas = latents(2), torch.tensor([0.9, 0.3])
    ours = half.velocity(x, sigmas, [half.empty_prompt] * 2)
    exact = model.velocity(x, sigmas, [model.empty_prompt] * 2)
    assert half.transformer.dtype == half.autoencoder.network.dtype == torch.bfloat16
    assert half.info.memory_bytes * 2 == model.info.memory_bytes
    assert ours.dtype == half.decode(x).dtype == half.encode(half.decode(x)).dtype == torch.float32
    assert 0 < (ours - exact).abs().amax() < 0.1


def test_half_precision_files_are_read_as_float32(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    for part, network in (("transformer", SD3Transformer2DModel), ("vae", AutoencoderKL)):
        network.from_pretrained(folder / part).half().save_pretrained(folder / part)
    loaded = load_model(str(folder), device="cpu")
    assert {p.dtype for p in loaded.transformer.parameters()} == {torch.float32}
    assert {p.dtype for p in loaded.autoencoder.network.parameters()} == {torch.float32}


def test_networks_are_frozen(model: SRModel) -> None:
    for network in (model.transformer, model.autoencoder.network):
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())


def test_noise_levels_come_from_the_checkpoint(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    FlowMatchEulerDiscreteScheduler(shift=2.5, num_train_timesteps=500).save_pretrained(
        folder / "scheduler"
    )
    loaded = load_model(str(folder), device="cpu")
    assert (loaded.info.shift, loaded.num_train_timesteps) == (2.5, 500)


def test_defaults_come_from_the_checkpoint(tmp_path: Path, model: SRModel) -> None:
    assert model.defaults == UpscaleParams()
    folder = write_checkpoint(tmp_path)
    (folder / "nullscale.json").write_text(json.dumps({"defaults": {"eta": 0.25}}))
    assert load_model(str(folder), device="cpu").defaults == UpscaleParams(eta=0.25)


def test_prompts_through_the_model(
    tmp_path: Path, tiny_text_checkpoint: Path, model: SRModel
) -> None:
    loaded = load_model(str(tiny_text_checkpoint), device="cpu", cache_dir=tmp_path)
    assert loaded.info.prompts
    assert loaded.encode_prompt("") is loaded.empty_prompt
    fox = loaded.encode_prompt("a fox")
    out = loaded.velocity(latents(2), torch.tensor([0.5, 0.5]), [fox, loaded.empty_prompt])
    assert out.isfinite().all()
    with pytest.raises(PromptUnsupported):
        model.encode_prompt("a fox")
    assert model.encode_prompt("") is model.empty_prompt


@pytest.mark.parametrize(
    ("config", "parameters", "bfloat16_gb"),
    [
        (PUBLISHED["sd3.5-medium"].transformer, 2.24e9, 5.1),
        (PUBLISHED["sd3.5-large"].transformer, 8.06e9, 16.5),
    ],
)
def test_published_configurations(
    config: dict[str, object], parameters: float, bfloat16_gb: float
) -> None:
    with torch.device("meta"):
        transformer = SD3Transformer2DModel(**config)
        vae = AutoencoderKL(**PUBLISHED["sd3.5-medium"].vae)
        out = transformer(
            torch.empty(2, 16, 128, 96),
            encoder_hidden_states=torch.empty(2, 333, 4096),
            pooled_projections=torch.empty(2, 2048),
            timestep=torch.empty(2),
        ).sample
        pixels = vae.decode(torch.empty(2, 16, 128, 96)).sample
        latents = vae.encode(pixels).latent_dist.mean
    assert out.shape == latents.shape == (2, 16, 128, 96)
    assert pixels.shape == (2, 3, 1024, 768)
    assert sum(p.numel() for p in transformer.parameters()) == pytest.approx(parameters, rel=0.02)
    estimate = memory_estimate(transformer, vae, dtype=torch.bfloat16)
    assert estimate == pytest.approx(bfloat16_gb * 1e9, rel=0.02)
    assert memory_estimate(transformer, vae, dtype=torch.float32) == 2 * estimate


def latents(rows: int) -> Tensor:
    shape = (rows, LATENT_CHANNELS, 16, 16)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def prompts(rows: int) -> list[PromptEmbeddings]:
    rng = torch.Generator().manual_seed(4)
    return [
        PromptEmbeddings(
            torch.randn(5, CONTEXT_DIM, generator=rng), torch.randn(POOLED_DIM, generator=rng)
        )
        for _ in range(rows)
    ]


@pytest.mark.parametrize("place", ["vae_draft", "elsewhere"])
def test_a_draft_autoencoder_speaks_the_same_latents(tmp_path: Path, place: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "model")
    folder = (checkpoint if place == "vae_draft" else tmp_path) / place
    draft = tiny_draft()
    draft.save_pretrained(folder)
    given = None if place == "vae_draft" else str(folder)
    model = load_model(str(checkpoint), device="cpu", draft=given)
    assert model.info.draft
    latents = torch.randn(2, LATENT_CHANNELS, 4, 6)
    with torch.no_grad():
        pixels = (draft.decode(latents).sample + 1) / 2
        torch.testing.assert_close(model.decode(latents, Variant.DRAFT), pixels)
        found = model.encode(pixels, Variant.DRAFT)
        torch.testing.assert_close(found, draft.encode(2 * pixels - 1).latents)
    assert not torch.allclose(model.decode(latents), pixels, atol=1e-2)


@pytest.mark.parametrize(
    ("draft", "words"),
    [(tiny_draft(LATENT_CHANNELS + 1), "latent channels"), (tiny_draft(stages=4), "factor")],
    ids=["channels", "factor"],
)
def test_a_draft_of_other_latents_is_refused(
    tmp_path: Path, tiny_checkpoint: Path, draft: AutoencoderTiny, words: str
) -> None:
    draft.save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match=words):
        load_model(str(tiny_checkpoint), device="cpu", draft=str(tmp_path))


def test_the_float32_variant_is_the_float32_model(tiny_checkpoint: Path, model: SRModel) -> None:
    half = load_model(str(tiny_checkpoint), device="cpu", dtype="bfloat16")
    latents, sigmas = torch.randn(1, LATENT_CHANNELS, 8, 8), torch.tensor([0.7])
    prompts = [half.empty_prompt]
    precise = half.velocity(latents, sigmas, prompts, Variant.FLOAT32)
    # Its weights went through bfloat16; its arithmetic did not.
    torch.testing.assert_close(
        precise, model.velocity(latents, sigmas, prompts), rtol=0.02, atol=0.02
    )
    assert half.decode(latents, Variant.FLOAT32).dtype == torch.float32
    assert half._float32 is not None
    half.release_float32()
    assert half._float32 is None
    assert half.transformer.dtype == torch.bfloat16
