"""Winograd's convolutions against PyTorch's own."""

import pytest
import torch
from torch import Tensor, nn

from nullscale.networks import winograd
from nullscale.networks.winograd import WinogradConv, worthwhile

SIDES = [(1, 1), (1, 9), (4, 4), (5, 3), (16, 12), (33, 18)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sides", SIDES)
def test_the_same_convolution(sides: tuple[int, int], bias: bool) -> None:
    conv = nn.Conv2d(7, 5, 3, padding=1, bias=bias).double().requires_grad_(False)
    x = noise(2, 7, *sides).double()
    torch.testing.assert_close(WinogradConv(conv)(x), conv(x), atol=1e-12, rtol=0)


def test_strips_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    conv, x = wide(), noise(3, 64, 30, 13)
    whole = WinogradConv(conv)(x)
    monkeypatch.setattr(winograd, "_STRIP_NUMBERS", 2 * 3 * 4 * 36 * 128)
    torch.testing.assert_close(WinogradConv(conv)(x), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_rounds_by_few_units_in_the_last_place(layout: torch.memory_format) -> None:
    conv = wide().to(memory_format=layout)
    x = noise(2, 64, 32, 20).contiguous(memory_format=layout)
    exact = torch.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    # Not against the direct sum, whose order differs from one processor to the next. The usual
    # points, 0, ±1, ±2 and ∞, would take twice as many.
    error = (WinogradConv(conv)(x) - exact).square().mean().sqrt()
    assert error < 10 * torch.finfo(torch.float32).eps * exact.square().mean().sqrt()
    assert WinogradConv(conv)(x).is_contiguous(memory_format=torch.channels_last)


def test_where_it_is_worthwhile() -> None:
    assert worthwhile(wide())
    assert not worthwhile(wide().bfloat16())
    assert not worthwhile(wide().to("meta"))
    others = [
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Conv2d(3, 128, 3, padding=1),
        nn.Conv2d(128, 128, 1),
        nn.Conv2d(128, 128, 3),
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3, padding=1, groups=128),
        nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(128, 128, 3, padding=1),
    ]
    assert not any(worthwhile(other) for other in others)


def wide() -> nn.Conv2d:
    torch.manual_seed(3)
    return nn.Conv2d(64, 128, 3, padding=1).requires_grad_(False)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(6))
