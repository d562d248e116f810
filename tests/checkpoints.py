"""Tiny Stable Diffusion 3 checkpoints in diffusers' own format, for tests.

Everything a published checkpoint has, at a size that is built in well under a second: transformer,
autoencoder with a shift and a scale that matter, scheduler, and on demand the three text encoders
with their tokenizers. Weights are random under a fixed seed.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
)
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

LATENT_CHANNELS = 4
NATIVE_PX = 64
CONTEXT_DIM = 32
CLIP_DIMS = (8, 16)
POOLED_DIM = sum(CLIP_DIMS)


def write_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    empty_prompt: bool = True,
    text_encoders: bool = False,
    t5: bool = True,
) -> Path:
    """A whole checkpoint in `folder`: f4 autoencoder, 64 px native, two joint blocks of width 32.

    empty_prompt: ship `empty_prompt.safetensors` (zeros, one token) as the bundled model does.
    text_encoders: both CLIPs and, unless `t5` is false, T5.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tiny_transformer().save_pretrained(folder / "transformer")
        tiny_vae().save_pretrained(folder / "vae")
        tiny_scheduler().save_pretrained(folder / "scheduler")
        if text_encoders:
            write_text_encoders(folder, t5=t5)
    if empty_prompt:
        tensors = {
            "prompt_embeds": torch.zeros(1, 1, CONTEXT_DIM),
            "pooled_prompt_embeds": torch.zeros(1, POOLED_DIM),
        }
        save_file(tensors, folder / "empty_prompt.safetensors")
    (folder / "model_index.json").write_text(json.dumps(_model_index(text_encoders, t5), indent=2))
    return folder


def tiny_transformer() -> SD3Transformer2DModel:
    """SD3.5's kind of transformer: RMS-normed queries and keys, one dual-attention block."""
    return SD3Transformer2DModel(
        sample_size=NATIVE_PX // 4,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=CONTEXT_DIM,
        caption_projection_dim=32,
        pooled_projection_dim=POOLED_DIM,
        pos_embed_max_size=24,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )


def tiny_vae() -> AutoencoderKL:
    """Factor 4; shift and scale far enough from 0 and 1 that a wrong sign shows."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=NATIVE_PX,
        scaling_factor=1.7,
        shift_factor=0.3,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )


def tiny_draft(latent_channels: int = LATENT_CHANNELS, stages: int = 3) -> AutoencoderTiny:
    """TAESD's architecture for the latents of `tiny_vae`."""
    return AutoencoderTiny(
        latent_channels=latent_channels,
        encoder_block_out_channels=(8,) * stages,
        decoder_block_out_channels=(8,) * stages,
        num_encoder_blocks=(1,) * stages,
        num_decoder_blocks=(1,) * stages,
    )


def tiny_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The noise levels of SD3.5."""
    return FlowMatchEulerDiscreteScheduler(shift=3.0)


def write_text_encoders(folder: Path, *, t5: bool = True) -> None:
    """Two CLIP text encoders and T5 of width 8, 16 and 32, with their tokenizers."""
    for suffix, dim in zip(("", "_2"), CLIP_DIMS, strict=True):
        tokenizer = clip_tokenizer()
        config = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=dim,
            intermediate_size=2 * dim,
            projection_dim=dim,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        CLIPTextModelWithProjection(config).save_pretrained(folder / f"text_encoder{suffix}")
        tokenizer.save_pretrained(folder / f"tokenizer{suffix}")
    if t5:
        tokenizer_3 = t5_tokenizer()
        config_3 = T5Config(
            vocab_size=len(tokenizer_3),
            d_model=CONTEXT_DIM,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            tie_word_embeddings=False,
        )
        T5EncoderModel(config_3).save_pretrained(folder / "text_encoder_3")
        tokenizer_3.save_pretrained(folder / "tokenizer_3")


def clip_tokenizer() -> CLIPTokenizer:
    """Byte-pair tokenizer without merges: each letter is a token."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789,."
    pieces = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


def t5_tokenizer() -> T5TokenizerFast:
    """Unigram tokenizer whose pieces are single letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    pieces += [(c, -3.0) for c in "abcdefghijklmnopqrstuvwxyz0123456789,."]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=512)


def _model_index(text_encoders: bool, t5: bool) -> dict[str, object]:
    def text(name: str, present: bool) -> list[str | None]:
        return ["transformers", name] if present else [None, None]

    return {
        "_class_name": "StableDiffusion3Pipeline",
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": text("CLIPTextModelWithProjection", text_encoders),
        "text_encoder_2": text("CLIPTextModelWithProjection", text_encoders),
        "text_encoder_3": text("T5EncoderModel", text_encoders and t5),
        "tokenizer": text("CLIPTokenizer", text_encoders),
        "tokenizer_2": text("CLIPTokenizer", text_encoders),
        "tokenizer_3": text("T5TokenizerFast", text_encoders and t5),
    }


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without text encoders that ships its empty prompt, as the bundled model does."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_text_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with text encoders and tokenizers and without a stored empty prompt."""
    folder = tmp_path_factory.mktemp("tiny-text")
    return write_checkpoint(folder, empty_prompt=False, text_encoders=True)


@pytest.fixture(scope="session")
def drafting_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a draft autoencoder of its own."""
    folder = write_checkpoint(tmp_path_factory.mktemp("drafting"))
    tiny_draft().save_pretrained(folder / "vae_draft")
    return folder


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Leave nothing compiled, and nothing forbidden, to other tests."""
    torch._dynamo.reset()
    yield
    torch.compiler.set_stance("default")
    torch._dynamo.reset()
