"""Prompt embeddings against diffusers' own pipeline, and the empty prompt's life on disk."""

import logging
from pathlib import Path

import pytest
import torch
from checkpoints import CONTEXT_DIM, POOLED_DIM, write_checkpoint
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import load_file, save_file

from nullscale.errors import ModelLoadError, PromptUnsupported
from nullscale.networks import prompts
from nullscale.networks.prompts import PromptEncoder, empty_prompt
from sr_engine.model import PromptEmbeddings

CPU = torch.device("cpu")


@pytest.mark.parametrize("prompt", ["", "a red fox, 4k", "word " * 300])
def test_embeddings_are_those_of_the_pipeline(tiny_text_checkpoint: Path, prompt: str) -> None:
    pipeline = StableDiffusion3Pipeline.from_pretrained(tiny_text_checkpoint, use_safetensors=True)
    with torch.no_grad():
        context, _, pooled, _ = pipeline.encode_prompt(
            prompt, None, None, device=CPU, do_classifier_free_guidance=False
        )

    ours = encoder(tiny_text_checkpoint).encode(prompt)

    assert ours.context.shape == (77 + 256, CONTEXT_DIM)
    torch.testing.assert_close(ours.context, context[0])
    torch.testing.assert_close(ours.pooled, pooled[0])


def test_different_prompts_differ(tiny_text_checkpoint: Path) -> None:
    enc = encoder(tiny_text_checkpoint)
    fox, cat = enc.encode("a fox"), enc.encode("a cat")
    assert not torch.allclose(fox.pooled, cat.pooled, atol=1e-3)
    assert not torch.allclose(fox.context[77:], cat.context[77:], atol=1e-3)


def test_without_t5_its_part_is_zero(tmp_path: Path, tiny_text_checkpoint: Path) -> None:
    write_checkpoint(tmp_path, empty_prompt=False, text_encoders=True, t5=False)
    ours = encoder(tmp_path).encode("a fox")
    full = encoder(tiny_text_checkpoint).encode("a fox")
    torch.testing.assert_close(ours.context[:77], full.context[:77])
    assert ours.context.shape == full.context.shape
    assert not ours.context[77:].any()


def test_no_text_encoder_is_said(tiny_checkpoint: Path) -> None:
    with pytest.raises(PromptUnsupported, match="prompt"):
        encoder(tiny_checkpoint).encode("a fox")


def test_bfloat16_encoders_still_give_float32(tiny_text_checkpoint: Path) -> None:
    ours = PromptEncoder(tiny_text_checkpoint, CPU, torch.bfloat16).encode("a fox")
    exact = encoder(tiny_text_checkpoint).encode("a fox")
    assert ours.context.dtype == ours.pooled.dtype == torch.float32
    torch.testing.assert_close(ours.context, exact.context, atol=0.1, rtol=0.1)


def test_empty_prompt_is_computed_once(
    tmp_path: Path, tiny_text_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = count_loads(monkeypatch)
    expected = encoder(tiny_text_checkpoint).encode("")
    assert len(loads) == 1

    first_encoder = encoder(tiny_text_checkpoint)
    first = empty_prompt(first_encoder, tmp_path)
    assert len(loads) == 2
    second = empty_prompt(encoder(tiny_text_checkpoint), tmp_path)
    assert len(loads) == 2, "the second time no text encoder is read"

    for found in (first, second):
        assert_same(found, expected)
    assert first_encoder._pipeline is None, "the text encoders are freed"
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".safetensors"
    assert {name: tuple(t.shape) for name, t in load_file(file).items()} == {
        "prompt_embeds": (1, 333, CONTEXT_DIM),
        "pooled_prompt_embeds": (1, POOLED_DIM),
    }


def test_each_checkpoint_and_dtype_has_its_own_cache_file(
    tmp_path: Path, tiny_text_checkpoint: Path
) -> None:
    other = write_checkpoint(tmp_path / "b", seed=1, empty_prompt=False, text_encoders=True)
    cache = tmp_path / "cache"
    ours = empty_prompt(encoder(tiny_text_checkpoint), cache)
    theirs = empty_prompt(encoder(other), cache)
    empty_prompt(PromptEncoder(other, CPU, torch.bfloat16), cache)
    assert not torch.allclose(ours.pooled, theirs.pooled)
    assert_same(empty_prompt(encoder(other), cache), theirs)
    assert len(list(cache.iterdir())) == 3


def test_cache_folder_comes_from_the_environment(
    tmp_path: Path, tiny_text_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NULLSCALE_CACHE", str(tmp_path / "here"))
    empty_prompt(encoder(tiny_text_checkpoint))
    assert len(list((tmp_path / "here").iterdir())) == 1


def test_a_damaged_cache_file_is_replaced(tmp_path: Path, tiny_text_checkpoint: Path) -> None:
    expected = empty_prompt(encoder(tiny_text_checkpoint), tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"half a fi")
    assert_same(empty_prompt(encoder(tiny_text_checkpoint), tmp_path), expected)
    assert_same(prompts._read(file), expected)


def test_an_unwritable_cache_only_warns(
    tmp_path: Path, tiny_text_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        empty_prompt(encoder(tiny_text_checkpoint), tmp_path / "file" / "cache")
    assert "not cached" in caplog.text


def test_the_shipped_empty_prompt_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path / "c", text_encoders=True)
    loads = count_loads(monkeypatch)
    found = empty_prompt(encoder(folder), tmp_path / "cache")
    assert found.context.shape == (1, CONTEXT_DIM)
    assert not loads
    assert not (tmp_path / "cache").exists()


def test_neither_empty_prompt_nor_encoders(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, empty_prompt=False)
    with pytest.raises(ModelLoadError, match=r"neither empty_prompt\.safetensors nor the text"):
        empty_prompt(encoder(folder), tmp_path / "cache")


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"prompt_embeds": torch.zeros(1, 1, 4)}, "no tensor 'pooled_prompt_embeds'"),
        (
            {"prompt_embeds": torch.zeros(1, 4), "pooled_prompt_embeds": torch.zeros(1, 4)},
            "expected shapes",
        ),
    ],
)
def test_a_wrong_empty_prompt_file_is_said(
    tmp_path: Path, tensors: dict[str, torch.Tensor], says: str
) -> None:
    save_file(tensors, tmp_path / "empty_prompt.safetensors")
    with pytest.raises(ModelLoadError, match=says):
        empty_prompt(encoder(tmp_path), tmp_path / "cache")


def test_a_pickled_text_encoder_is_not_read(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", empty_prompt=False, text_encoders=True)
    weights = folder / "text_encoder_2/model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    with pytest.raises(ModelLoadError, match="text encoders cannot be read") as caught:
        empty_prompt(encoder(folder), tmp_path / "cache")
    assert "\n" not in str(caught.value)


def encoder(folder: Path) -> PromptEncoder:
    return PromptEncoder(folder, CPU, torch.float32)


def count_loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders of which the text encoders are read from now on."""
    loads: list[Path] = []
    real = prompts._load_text_pipeline

    def counted(folder: Path, device: torch.device, dtype: torch.dtype) -> object:
        loads.append(folder)
        return real(folder, device, dtype)

    monkeypatch.setattr(prompts, "_load_text_pipeline", counted)
    return loads


def assert_same(found: PromptEmbeddings, expected: PromptEmbeddings) -> None:
    torch.testing.assert_close(found.context, expected.context)
    torch.testing.assert_close(found.pooled, expected.pooled)
