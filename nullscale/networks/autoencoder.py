"""The two ways between pixels and latents: a checkpoint's autoencoder, or a cheaper one.

AutoencoderTiny (TAESD) is trained to give the latents of an AutoencoderKL *after* their shift and
scale, so that both mean the same here.
"""

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from jaxtyping import Float
from torch import Tensor

from nullscale.networks.fast_vae import faster
from nullscale.networks.replay import Call, CudaRecorder, Record, Replayed

BUDGET_BYTES = 4 * 2**30
"""What the activations of one call may take: two rows of 1024² pixels for SD3.5 in bfloat16. One
such row keeps a GPU busy; what more of them took would be missing elsewhere."""

REPLAYED_PIXELS = 2**18
"""Larger batches keep a GPU busy nearly by themselves. What recordings of these hold, one row of
512² pixels, is 0.4 GB for SD3.5 in bfloat16."""

RECORDINGS = 16
"""Shapes that are kept, each way: a device has tens of kilobytes of commands for each."""


class Autoencoder:
    """The design's ``g`` and ``g'``, float32 at the borders; its state is the network's weights.

    Attributes:
        network: what computes; with ``fast`` a rewritten copy, otherwise ``stock``.
        stock: diffusers' modules with the checkpoint's weights; a copy shares them.
        factor: pixels a latent, per axis.
        latent_channels: of the latents.
        record: of small batches, for replay; None where they are not recorded.

    Args:
        record: by default CUDA's for a fast network there. Who gives another autoencoder's shares
            the memory that its recordings hold.
    """

    def __init__(
        self,
        network: AutoencoderKL | AutoencoderTiny,
        *,
        fast: bool = True,
        budget_bytes: int = BUDGET_BYTES,
        record: Record | None = None,
    ) -> None:
        # Convolutions would reorder every input; the inputs themselves may have any layout.
        self.stock: Any = network.to(memory_format=torch.channels_last)
        self.network: Any = faster(self.stock) if fast else self.stock
        # Asked for once: diffusers walks through all parameters to say it.
        self._dtype: torch.dtype = self.network.dtype
        self._budget_bytes = budget_bytes
        config = network.config
        self.latent_channels: int = config.latent_channels
        self.factor: int = 2 ** (len(config.block_out_channels) - 1)
        self._widest: int = max(config.block_out_channels[:2])
        self._scale: float = config.scaling_factor
        self._shift: float = config.shift_factor or 0.0
        if record is None and fast and self.network.device.type == "cuda":
            record = CudaRecorder(self.row_bytes(REPLAYED_PIXELS))
        self.record = record
        self._decoded, self._encoded = (
            _Way(partial(way, self.network), record) for way in (_pixels, _mode)
        )

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Pixels of latents, nominally 0 to 1, not clipped."""
        raw = latents.to(self.network.device) / self._scale + self._shift
        pixels = self._in_chunks(
            self._decoded,
            raw.to(self._dtype),
            raw.shape[-2] * raw.shape[-1] * self.factor**2,
        )
        result: Tensor = (pixels.float() + 1) / 2
        return result

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Latents ``(mean − shift)·scale`` of pixels in 0 to 1.

        The mode of the posterior, not a sample, so that encoding adds no noise of its own.
        """
        scaled = (2 * pixels.to(self.network.device) - 1).to(self._dtype)
        mean = self._in_chunks(self._encoded, scaled, scaled.shape[-2] * scaled.shape[-1])
        return (mean.float() - self._shift) * self._scale

    def row_bytes(self, pixels: int) -> int:
        """Bytes that the activations of one row of so many `pixels` take at the most.

        An estimate: three of the widest ones at full size, which are the decoder's behind its last
        doubling (256 channels for SD3.5): what a residual block was given, normed, and convolved.
        """
        return 3 * self._widest * pixels * self._dtype.itemsize

    def in_float32(self) -> "Autoencoder":
        """A copy of the stock network in float32.

        Not a fast one: what decides where a picture cannot be right owes nothing to our rewriting,
        runs once in a long while, and starts from the checkpoint's weights, not from sums of them
        that were rounded to the model's own dtype.
        """
        return Autoencoder(
            deepcopy(self.stock).float(), fast=False, budget_bytes=self._budget_bytes
        )

    def _in_chunks(self, way: "_Way", batch: Tensor, pixels: int) -> Tensor:
        """Go with as many rows at once as the budget has room for, one at least."""
        rows = max(1, self._budget_bytes // self.row_bytes(pixels))
        if len(batch) <= rows:
            return way(batch, pixels)
        return torch.cat([way(chunk, pixels) for chunk in torch.split(batch, rows)])


class _Way:
    """One way through a network, small batches replayed."""

    def __init__(self, call: Call, record: Record | None) -> None:
        self._call = call
        self._replayed = None if record is None else Replayed(call, RECORDINGS, record)

    def __call__(self, batch: Tensor, pixels: int) -> Tensor:
        """Return what the network makes of rows of so many pixels."""
        if self._replayed is None or len(batch) * pixels > REPLAYED_PIXELS:
            return self._call(batch)
        return self._replayed(batch)


def _pixels(network: Any, latents: Tensor) -> Tensor:
    (pixels,) = network.decode(latents, return_dict=False)
    result: Tensor = pixels
    return result


def _mode(network: Any, pixels: Tensor) -> Tensor:
    (found,) = network.encode(pixels, return_dict=False)
    mode: Tensor = found if isinstance(found, Tensor) else found.mode()
    return mode
