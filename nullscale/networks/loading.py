"""From a diffusers-format Stable Diffusion 3 checkpoint to a model, or to one clear error."""

from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, SD3Transformer2DModel
from safetensors import SafetensorError
from torch import nn

from nullscale.errors import ModelLoadError
from nullscale.networks.autoencoder import Autoencoder
from nullscale.networks.checkpoint import (
    BUNDLED,
    check_unquantized,
    check_weights,
    find_checkpoint,
    one_line,
    read_config,
    read_defaults,
    read_scheduler,
)
from nullscale.networks.fast_transformer import FastTransformer
from nullscale.networks.model import SRModel
from nullscale.networks.prompts import PromptEncoder, empty_prompt
from nullscale.networks.quantization import quantization_config
from sr_engine.model import PromptEmbeddings

OWN_DRAFT = "vae_draft"
DRAFT_FILES = ("config.json", "*.safetensors")
Transformer = Literal["fast", "offloaded", "stock"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    source: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    draft: str | None = None,
    quantize: str | None = None,
    autoencoder: Literal["fast", "stock"] = "fast",
    transformer: Transformer = "fast",
    cache_dir: Path | None = None,
) -> SRModel:
    """Loads a Stable Diffusion 3 or 3.5 checkpoint in the diffusers format.

    source: "bundled", a folder, or a hub id such as "stabilityai/stable-diffusion-3.5-medium".
    device: "auto" takes CUDA where there is one.
    dtype: float32, bfloat16 or float16; "auto" is bfloat16 on CUDA, float32 elsewhere.
    draft: an AutoencoderTiny for the same latents, a folder or a hub id such as
        "madebyollin/taesd3"; by default the checkpoint's own ``vae_draft``, if it has one.
    quantize: keeps the transformer's weights in fewer bits, "nf4" (on CUDA) or "fp8".
    autoencoder: "fast" gives the same in fewer operations than "stock", diffusers' own.
    transformer: "fast" looks conditioning up and fuses projections, "offloaded" keeps what makes
        the conditioning in the host's memory besides, "stock" is diffusers' module as it is,
        which quantised weights need.
    cache_dir: keeps the empty prompt's embeddings; $NULLSCALE_CACHE or ~/.cache/nullscale.

    Raises:
        ModelLoadError: the checkpoint cannot be found, read or used.
    """
    place = _device(device)
    number = _dtype(dtype, place)
    fewer_bits = quantization_config(quantize, place, number) if quantize else None
    given, folder = Path(source).expanduser(), find_checkpoint(source)
    shift, num_train_timesteps = read_scheduler(folder)
    defaults = read_defaults(folder)
    prompt_encoder = PromptEncoder(folder, place, number)
    # Before the other networks: the text encoders are gone when those need the memory.
    empty = empty_prompt(prompt_encoder, cache_dir)
    stock = _load(SD3Transformer2DModel, folder, "transformer", number, fewer_bits, place)
    vae = _load(AutoencoderKL, folder, "vae", number).to(place)
    _check_fit(folder, stock, vae, empty)
    fast = autoencoder == "fast"
    coder = Autoencoder(vae, fast=fast)
    return SRModel(
        # Projections of quantised weights cannot be fused.
        _place(stock, place, transformer if fewer_bits is None else "stock"),
        coder,
        prompt_encoder,
        draft=_load_draft(draft, folder, coder, number, place, fast),
        quantize=quantize,
        name=folder.resolve().name if source != BUNDLED and given.is_dir() else source,
        shift=shift,
        num_train_timesteps=num_train_timesteps,
        empty_prompt=empty,
        defaults=defaults,
    )


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as err:
        raise ModelLoadError(f"device {device!r} is unknown: use auto, cpu or cuda") from err
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ModelLoadError(f"device {device!r} asked for, but PyTorch sees no CUDA device")
    return place


def _place(stock: Any, place: torch.device, kind: Transformer) -> Any:
    if kind == "stock":
        return stock.to(place)
    return FastTransformer(stock).place(place, offload=kind == "offloaded")


def _dtype(dtype: str, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise ModelLoadError(f"dtype {dtype!r} is unknown: use auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _load_draft(
    source: str | None,
    folder: Path,
    autoencoder: Autoencoder,
    dtype: torch.dtype,
    place: torch.device,
    fast: bool,
) -> Autoencoder | None:
    """The cheaper autoencoder; it must speak the same latents as the other."""
    if source is not None:
        folder, part = find_checkpoint(source, DRAFT_FILES), "."
    elif (folder / OWN_DRAFT).is_dir():
        part = OWN_DRAFT
    else:
        return None
    tiny = _load(AutoencoderTiny, folder, part, dtype).to(place)
    draft = Autoencoder(tiny, fast=fast, record=autoencoder.record)
    for what in ("latent_channels", "factor"):
        if getattr(draft, what) != getattr(autoencoder, what):
            raise ModelLoadError(
                f"{source or folder / part}: {what.replace('_', ' ')} of the draft autoencoder is "
                f"{getattr(draft, what)}, the model's is {getattr(autoencoder, what)}"
            )
    return draft


def _load(
    network: Any,
    folder: Path,
    part: str,
    dtype: torch.dtype,
    quantization: Any = None,
    place: torch.device | None = None,
) -> Any:
    """One network for inference, every weight of it from the checkpoint.

    With a ``quantization`` the weights come to ``place`` one by one, and are quantised there.
    """
    read_config(folder, f"{part}/config.json", network.__name__)
    check_weights(folder / part)
    if quantization:
        check_unquantized(folder / part)
    fewer_bits = (
        {"quantization_config": quantization, "device_map": {"": place}} if quantization else {}
    )
    try:
        loaded, report = network.from_pretrained(
            folder / part,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **fewer_bits,
        )
    except (OSError, ValueError, TypeError, RuntimeError, KeyError, SafetensorError) as err:
        raise ModelLoadError(f"{folder / part}: cannot be read: {one_line(err)}") from err
    # Diffusers only warns, and goes on with random numbers.
    if missing := report["missing_keys"]:
        raise ModelLoadError(
            f"{folder / part}: the checkpoint is incomplete, {len(missing)} weights are missing, "
            f"{min(missing)} among them"
        )
    # Not quantised ones, which may know no such question: the first picture shows.
    plain = [(name, p) for name, p in loaded.named_parameters() if type(p) is nn.Parameter]
    if bad := [name for name, p in plain if not bool(p.isfinite().all())]:
        raise ModelLoadError(
            f"{folder / part}: {len(bad)} weights have NaN or infinite values in {dtype}, "
            f"{min(bad)} among them; the file is damaged, or the dtype too narrow for it"
        )
    return loaded.requires_grad_(False).eval()


def _check_fit(folder: Path, transformer: Any, vae: Any, prompt: PromptEmbeddings) -> None:
    """Makes sure that the parts belong together, before the first request finds out."""
    wants, has = transformer.config, vae.config
    for what, found, expected in (
        ("latent channels of the vae", has.latent_channels, wants.in_channels),
        ("output channels of the transformer", transformer.out_channels, wants.in_channels),
        ("width of the empty prompt", prompt.context.shape[-1], wants.joint_attention_dim),
        ("width of its pooled part", prompt.pooled.shape[-1], wants.pooled_projection_dim),
    ):
        if found != expected:
            raise ModelLoadError(f"{folder}: {what} is {found}, the transformer's is {expected}")
