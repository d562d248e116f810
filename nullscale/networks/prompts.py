"""Text prompts as embeddings: CLIP-L, CLIP-G and T5, and the empty prompt kept on disk.

The three text encoders of SD3.5 are 10 GB, and most requests have no prompt. So the embeddings of
the empty prompt are stored once, and the encoders are read only when a prompt really comes.
"""

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from nullscale.errors import ModelLoadError, PromptUnsupported
from sr_engine.model import PromptEmbeddings

logger = logging.getLogger(__name__)

EMPTY_PROMPT_FILE = "empty_prompt.safetensors"
MAX_T5_TOKENS = 256


class PromptEncoder:
    """The text encoders of one checkpoint folder, read when first used and kept until `free`."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        self.folder = folder
        self.device = device
        self.dtype = dtype
        self._pipeline: Any = None

    @property
    def available(self) -> bool:
        """Whether the checkpoint has both CLIP encoders; T5 may be absent, as in SD3 itself."""
        return all((self.folder / f"text_encoder{n}/config.json").is_file() for n in ("", "_2"))

    @torch.no_grad()
    def encode(self, prompt: str) -> PromptEmbeddings:
        """Embeddings of `prompt` as `StableDiffusion3Pipeline` computes them, 77 + 256 tokens.

        Raises:
            PromptUnsupported: the checkpoint has no text encoders.
            ModelLoadError: it has some, and they cannot be read.
        """
        if not self.available:
            raise PromptUnsupported
        if self._pipeline is None:
            self._pipeline = _load_text_pipeline(self.folder, self.device, self.dtype)
        context, _, pooled, _ = self._pipeline.encode_prompt(
            prompt,
            prompt_2=None,
            prompt_3=None,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=MAX_T5_TOKENS,
        )
        return PromptEmbeddings(context[0].float(), pooled[0].float())

    def free(self) -> None:
        """Gives the encoders' memory back; the next `encode` reads them again."""
        self._pipeline = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def empty_prompt(encoder: PromptEncoder, cache_dir: Path | None = None) -> PromptEmbeddings:
    """Embeddings of the empty prompt: from the checkpoint, else from the cache, else computed.

    cache_dir: where computed ones are kept; $NULLSCALE_CACHE or ~/.cache/nullscale by default.
    No text encoder is left in memory.

    Raises:
        ModelLoadError: the checkpoint has neither the embeddings nor text encoders.
    """
    shipped = encoder.folder / EMPTY_PROMPT_FILE
    if shipped.is_file():
        return _read(shipped).to(encoder.device)
    if not encoder.available:
        raise ModelLoadError(
            f"{encoder.folder}: it has neither {EMPTY_PROMPT_FILE} nor the text encoders "
            "(text_encoder, text_encoder_2) to compute it"
        )
    cached = (
        cache_dir or _default_cache_dir()
    ) / f"empty_prompt-{_fingerprint(encoder)}.safetensors"
    if cached.is_file():
        try:
            return _read(cached).to(encoder.device)
        except ModelLoadError as err:
            logger.warning("computing the empty prompt again: %s", err)
    embeddings = encoder.encode("")
    encoder.free()
    _write(cached, embeddings)
    return embeddings


def _load_text_pipeline(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline without its transformer and autoencoder: tokenizers and encoders."""
    with _quiet_transformers():
        from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
    absent = dict.fromkeys(("transformer", "vae", "image_encoder", "feature_extractor"))
    has_t5 = (folder / "text_encoder_3/config.json").is_file()
    if not has_t5:
        absent |= dict.fromkeys(("text_encoder_3", "tokenizer_3"))
    try:
        pipeline = StableDiffusion3Pipeline.from_pretrained(
            folder, **absent, dtype=dtype, use_safetensors=True, local_files_only=True
        )
        if not has_t5:
            # Without T5 the pipeline puts zeros, as wide as the transformer's configuration says.
            config = SD3Transformer2DModel.load_config(folder / "transformer")
            with torch.device("meta"):
                pipeline.register_modules(transformer=SD3Transformer2DModel.from_config(config))
    except (OSError, ValueError, RuntimeError, SafetensorError) as err:
        reason = " ".join(str(err).split())
        raise ModelLoadError(f"{folder}: the text encoders cannot be read: {reason}") from err
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
        if (encoder := getattr(pipeline, name)) is not None:
            encoder.to(device).requires_grad_(False).eval()
    return pipeline


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keeps quiet on torchvision, which image processors that we never use would like to have."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def _default_cache_dir() -> Path:
    return Path(os.environ.get("NULLSCALE_CACHE") or Path.home() / ".cache/nullscale")


def _fingerprint(encoder: PromptEncoder) -> str:
    """Names these very encoder files and this dtype, without reading gigabytes.

    In the hub's own cache the resolved name of a file is the hash of its content.
    """
    digest = hashlib.sha256(str(encoder.dtype).encode())
    for part in ("text_encoder*", "tokenizer*"):
        for path in sorted(encoder.folder.glob(f"{part}/*")):
            stat = path.stat()
            digest.update(f"\n{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:24]


def _read(path: Path) -> PromptEmbeddings:
    try:
        tensors = load_file(path)
        context, pooled = tensors["prompt_embeds"], tensors["pooled_prompt_embeds"]
    except (OSError, SafetensorError) as err:
        raise ModelLoadError(f"{path}: no readable safetensors file: {err}") from err
    except KeyError as err:
        raise ModelLoadError(f"{path}: it has no tensor {err}") from err
    if context.ndim != 3 or pooled.ndim != 2 or context.shape[0] != 1 or pooled.shape[0] != 1:
        raise ModelLoadError(
            f"{path}: expected shapes [1, tokens, dim] and [1, pooled], "
            f"found {list(context.shape)} and {list(pooled.shape)}"
        )
    return PromptEmbeddings(context[0].float(), pooled[0].float())


def _write(path: Path, embeddings: PromptEmbeddings) -> None:
    """Atomic, since several replicas may start at once; an unwritable cache is no error."""
    content = save(
        {
            "prompt_embeds": embeddings.context[None].cpu().contiguous(),
            "pooled_prompt_embeds": embeddings.pooled[None].cpu().contiguous(),
        }
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        os.replace(file.name, path)
    except OSError as err:
        logger.warning("the empty prompt is not cached: %s", err)
