"""The Triton kernels against float64: on CUDA as they are, elsewhere by Triton's interpreter."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytest.importorskip("triton")

from nullscale.networks import kernels  # noqa: E402

# In lanes that are not stored; on a GPU nobody warns of it.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")
SHAPES = [(2, 16, 2, 7, 5), (1, 32, 4, 1, 1), (2, 64, 32, 33, 9), (1, 512, 32, 9, 11)]
"""Rows, channels, groups, sides; the third has more pixels than a program takes at once."""


def activations(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Far from zero, as after a few residual blocks: moments lose digits there."""
    generator = torch.Generator().manual_seed(0)
    x = 30 + torch.randn(shape, generator=generator)
    return x.to(DEVICE, dtype).contiguous(memory_format=torch.channels_last)


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    norm = nn.GroupNorm(groups, channels, eps=1e-6).requires_grad_(False).to(DEVICE)
    norm.weight.normal_()
    norm.bias.normal_()
    return norm


def expected(x: Tensor, norm: nn.GroupNorm, bias: Tensor | None, silu: bool) -> Tensor:
    x = x.double() if bias is None else x.double() + bias.double()[:, None, None]
    given = norm.num_groups, norm.weight.double(), norm.bias.double(), norm.eps
    found = F.group_norm(x, *given)
    return F.silu(found) if silu else found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_norm(shape: tuple[int, ...], silu: bool, with_bias: bool) -> None:
    rows, channels, groups, *sides = shape
    x, norm = activations(rows, channels, *sides), group_norm(channels, groups)
    bias = torch.randn(channels, device=DEVICE) if with_bias else None
    found = kernels.norm(x, norm, bias, silu=silu)
    torch.testing.assert_close(found.double(), expected(x, norm, bias, silu), atol=5e-5, rtol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_what_is_not_channels_last_is_normed_too() -> None:
    x, norm = activations(2, 16, 7, 5).contiguous(), group_norm(16, 4)
    found = kernels.norm(x, norm, None, silu=True)
    torch.testing.assert_close(found.double(), expected(x, norm, None, True), atol=5e-5, rtol=1e-5)


def test_bfloat16_is_computed_in_float32() -> None:
    x, norm = activations(1, 32, 9, 8, dtype=torch.bfloat16), group_norm(32, 4)
    found, want = kernels.norm(x, norm, None, silu=True), expected(x, norm, None, True)
    assert found.dtype == torch.bfloat16
    # The interpreter cuts off what a GPU rounds.
    error, step = (found.double() - want).abs(), want.abs() * 2**-7
    assert (error <= step + 1e-4).all()


def test_one_picture_does_not_change_another() -> None:
    x, norm = activations(3, 32, 6, 6), group_norm(32, 8)
    x[1] *= 100
    alone = kernels.norm(x[2:], norm, None, silu=True)
    assert torch.equal(kernels.norm(x, norm, None, silu=True)[2:], alone)


def test_sum() -> None:
    x, y = activations(2, 16, 7, 5), activations(2, 16, 7, 5).contiguous() / 3
    bias = torch.randn(16, device=DEVICE)
    want = x + y + bias[:, None, None]
    assert kernels.add_(x, y, bias) is x
    torch.testing.assert_close(x, want)


@pytest.mark.parametrize("width", [1, 100, 1024])
def test_softmax(width: int) -> None:
    x = 20 * torch.randn(2, 5, width, device=DEVICE)
    found = kernels.softmax(x, 0.3, torch.float32)
    torch.testing.assert_close(found, (0.3 * x.double()).softmax(-1).float(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("groups", "channels", "fits"), [(32, 128, True), (3, 96, False), (1, 2**13, False)]
)
def test_which_norms_fit(groups: int, channels: int, fits: bool) -> None:
    assert kernels.fits(nn.GroupNorm(groups, channels)) is fits
    assert not kernels.fits(nn.GroupNorm(groups, channels, affine=False))
