"""Cheaper ways between latents and pixels: which network computes what."""

import torch
from bench_cheaper import Differential, Half, measure
from fakes import FakeModel
from skimage import data

from nullscale.scheduling.work import Variant


class Noted(FakeModel):
    """Notes which network is asked for what, and how wide."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, Variant, int]] = []

    def decode(self, latents: torch.Tensor, variant: Variant = Variant.BASE) -> torch.Tensor:
        self.asked.append(("decode", variant, latents.shape[-1]))
        return super().decode(latents, variant)

    def encode(self, pixels: torch.Tensor, variant: Variant = Variant.BASE) -> torch.Tensor:
        self.asked.append(("encode", variant, pixels.shape[-1]))
        return super().encode(pixels, variant)


def test_the_differential_encodes_alone_with_the_cheap_network() -> None:
    model = Noted()
    way = Differential(model)
    way.encode(way.decode(torch.zeros(1, 3, 8, 8), Variant.DRAFT), Variant.DRAFT)
    assert model.asked == [("decode", Variant.BASE, 8), ("encode", Variant.DRAFT, 16)]


def test_half_the_resolution_is_the_whole_networks() -> None:
    model = Noted()
    way = Half(model)
    pixels = way.decode(torch.zeros(1, 3, 8, 8), Variant.DRAFT)
    assert pixels.shape[-1] == 16 and way.encode(pixels, Variant.DRAFT).shape[-1] == 8
    assert model.asked == [("decode", Variant.BASE, 4), ("encode", Variant.BASE, 8)]
    way.decode(torch.zeros(1, 3, 8, 8))
    assert model.asked[-1] == ("decode", Variant.BASE, 8)


def test_a_picture_is_made_and_measured() -> None:
    truth = data.chelsea()[:32, :32].copy()
    found = measure(Half(FakeModel()), {"projection": "residual", "draft": True}, [truth])
    assert found["psnr_y"] > 10 and found["seconds"] > 0
