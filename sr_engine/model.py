"""The networks: velocity of the transformer, encoder and decoder of the autoencoder.

The only file that knows diffusers' models. Everything is float32 at its borders; inside, the
networks run in the model's own dtype.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn

from sr_engine.checkpoint import (
    BUNDLED,
    check_weights,
    find_checkpoint,
    one_line,
    read_config,
    read_defaults,
    read_scheduler,
)
from sr_engine.errors import ModelLoadError
from sr_engine.prompts import PromptEmbeddings, PromptEncoder, empty_prompt
from sr_engine.request import UpscaleParams

__all__ = ["ModelInfo", "PromptEmbeddings", "SRModel", "load_model", "memory_estimate"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What can be said of a loaded model.

    Attributes:
        native_px: side of the square picture that the transformer was trained for.
        vae_factor: pixels a latent, per axis.
        multiple_px: picture sides are multiples of it (autoencoder factor × patch size).
        parameters: of transformer and autoencoder together.
        memory_bytes: what their weights take.
        prompts: the checkpoint has text encoders.
    """

    name: str
    native_px: int
    vae_factor: int
    multiple_px: int
    latent_channels: int
    parameters: int
    memory_bytes: int
    device: str
    dtype: str
    prompts: bool


class SRModel:
    """A checkpoint's networks on one device; its state is the weights.

    Attributes:
        info: what can be said of it.
        defaults: parameters for this model, from the ``defaults`` of its own ``nullscale.json``.
        empty_prompt: embeddings of the empty prompt, on the model's device.
        shift: of the noise levels (SD3, Eq. 23); the checkpoint's scheduler configuration has it.
        num_train_timesteps: the transformer's time at σ = 1, from the same place.
    """

    def __init__(
        self,
        transformer: SD3Transformer2DModel,
        vae: AutoencoderKL,
        prompt_encoder: PromptEncoder,
        *,
        name: str,
        shift: float,
        num_train_timesteps: int,
        empty_prompt: PromptEmbeddings,
        defaults: UpscaleParams,
    ) -> None:
        self.transformer = transformer
        self.vae = vae
        self.device: torch.device = prompt_encoder.device
        self.dtype: torch.dtype = prompt_encoder.dtype
        self.shift = shift
        self.num_train_timesteps = num_train_timesteps
        self.empty_prompt = empty_prompt
        self.defaults = defaults
        self._prompt_encoder = prompt_encoder
        self._vae_scale: float = vae.config.scaling_factor
        self._vae_shift: float = vae.config.shift_factor or 0.0
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.info = ModelInfo(
            name=name,
            native_px=transformer.config.sample_size * factor,
            vae_factor=factor,
            multiple_px=transformer.config.patch_size * factor,
            latent_channels=vae.config.latent_channels,
            parameters=sum(p.numel() for net in (transformer, vae) for p in net.parameters()),
            memory_bytes=memory_estimate(transformer, vae, dtype=self.dtype),
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            prompts=prompt_encoder.available,
        )

    @torch.no_grad()
    def velocity(
        self,
        latents: Float[Tensor, "b c h w"],
        sigmas: Float[Tensor, "b"],
        prompts: Sequence[PromptEmbeddings],
    ) -> Float[Tensor, "b c h w"]:
        """Velocity ``v = ε − x0`` of each row at its own noise level and with its own prompt.

        All prompts of a batch have the same number of tokens, as those of one checkpoint have.
        """
        place, dtype = self.device, self.dtype
        (velocity,) = self.transformer(
            latents.to(place, dtype),
            encoder_hidden_states=torch.stack([p.context.to(place, dtype) for p in prompts]),
            pooled_projections=torch.stack([p.pooled.to(place, dtype) for p in prompts]),
            # float32 whatever the network's dtype: bfloat16 knows no 947.
            timestep=sigmas.to(place, torch.float32) * self.num_train_timesteps,
            return_dict=False,
        )
        result: Tensor = velocity.float()
        return result

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Pixels of latents, nominally 0 to 1, not clipped: the design's ``g'``."""
        raw = latents.to(self.device) / self._vae_scale + self._vae_shift
        (pixels,) = self.vae.decode(raw.to(self.dtype), return_dict=False)
        result: Tensor = (pixels.float() + 1) / 2
        return result

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Latents ``(mean − shift)·scale`` of pixels in 0 to 1.

        The mode of the posterior, not a sample, so that encoding adds no noise of its own.
        """
        (posterior,) = self.vae.encode(
            (2 * pixels.to(self.device) - 1).to(self.dtype), return_dict=False
        )
        mean: Tensor = posterior.mode().float()
        return (mean - self._vae_shift) * self._vae_scale

    def encode_prompt(self, prompt: str) -> PromptEmbeddings:
        """Embeddings of `prompt`; the text encoders are read on first use and stay in memory.

        Raises:
            PromptUnsupported: the checkpoint has no text encoders.
        """
        return self._prompt_encoder.encode(prompt) if prompt else self.empty_prompt


def load_model(
    source: str, *, device: str = "auto", dtype: str = "auto", cache_dir: Path | None = None
) -> SRModel:
    """Loads a Stable Diffusion 3 or 3.5 checkpoint in the diffusers format.

    source: "bundled", a folder, or a hub id such as "stabilityai/stable-diffusion-3.5-medium".
    device: "auto" takes CUDA where there is one.
    dtype: float32, bfloat16 or float16; "auto" is bfloat16 on CUDA, float32 elsewhere.
    cache_dir: keeps the empty prompt's embeddings; $NULLSCALE_CACHE or ~/.cache/nullscale.

    Raises:
        ModelLoadError: the checkpoint cannot be found, read or used.
    """
    place = _device(device)
    number = _dtype(dtype, place)
    given, folder = Path(source).expanduser(), find_checkpoint(source)
    shift, num_train_timesteps = read_scheduler(folder)
    defaults = read_defaults(folder)
    prompt_encoder = PromptEncoder(folder, place, number)
    # Before the other networks: the text encoders are gone when those need the memory.
    empty = empty_prompt(prompt_encoder, cache_dir)
    transformer = _load(SD3Transformer2DModel, folder, "transformer", number).to(place)
    vae = _load(AutoencoderKL, folder, "vae", number).to(place, memory_format=torch.channels_last)
    _check_fit(folder, transformer, vae, empty)
    return SRModel(
        transformer,
        vae,
        prompt_encoder,
        name=folder.resolve().name if source != BUNDLED and given.is_dir() else source,
        shift=shift,
        num_train_timesteps=num_train_timesteps,
        empty_prompt=empty,
        defaults=defaults,
    )


def memory_estimate(*networks: nn.Module, dtype: torch.dtype) -> int:
    """Bytes that the weights and buffers of `networks` take in `dtype`; meta tensors will do."""
    values: int = sum(t.numel() for network in networks for t in network.state_dict().values())
    itemsize: int = dtype.itemsize
    return values * itemsize


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


def _dtype(dtype: str, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise ModelLoadError(f"dtype {dtype!r} is unknown: use auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _load(network: Any, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """One network for inference, every weight of it from the checkpoint."""
    read_config(folder, f"{part}/config.json", network.__name__)
    check_weights(folder / part)
    try:
        loaded, report = network.from_pretrained(
            folder / part,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, TypeError, RuntimeError, KeyError, SafetensorError) as err:
        raise ModelLoadError(f"{folder / part}: cannot be read: {one_line(err)}") from err
    # Diffusers only warns, and goes on with random numbers.
    if missing := report["missing_keys"]:
        raise ModelLoadError(
            f"{folder / part}: the checkpoint is incomplete, {len(missing)} weights are missing, "
            f"{min(missing)} among them"
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
