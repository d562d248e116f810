"""What a sampler asks of the networks, and how it is spoken with."""

from collections.abc import Generator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Denoise:
    """Asks for the velocity at ``latents`` [*b, c, h, w] and level ``sigma``."""

    latents: Tensor
    sigma: float
    negative: bool = False
    """Whether the negative prompt conditions it instead of the prompt."""


@dataclass(frozen=True, slots=True)
class Decode:
    """Asks for the pixels g'(``latents``) [*b, 3, H, W], nominally 0 to 1."""

    latents: Tensor
    draft: bool = False
    """Whether the cheaper autoencoder will do."""


@dataclass(frozen=True, slots=True)
class Encode:
    """Asks for the latents g(``pixels``), ``pixels`` [*b, 3, H, W] nominally 0 to 1."""

    pixels: Tensor
    draft: bool = False


NetworkCall = Denoise | Decode | Encode
Sampler = Generator[tuple[NetworkCall, ...], tuple[Tensor, ...], Tensor]
"""Yields calls that may run together, is sent their results in order, and returns a tensor: the
picture, or what a part of the sampler has found."""
