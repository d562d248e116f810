"""The Penrose conditions, Pillow's own resampling, and the projection's promises."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from nullscale.errors import InvalidParameter
from nullscale.maths.banded import axis_factors
from nullscale.maths.exact_products import exact_products
from nullscale.maths.operators import (
    AveragePooling,
    BicubicDownscale,
    Canvas,
    LinearOperator,
    output_side,
    project,
)

SIDES = st.integers(1, 40)
SCALES = st.one_of(st.sampled_from([1.0, 1.1, 1.5, 2.0, 2.7, 3.0, 4.0, 8.0]), st.floats(1.1, 6))
OPERATORS: st.SearchStrategy[LinearOperator] = st.one_of(
    st.builds(BicubicDownscale, st.tuples(SIDES, SIDES), SCALES),
    st.builds(AveragePooling, st.tuples(SIDES, SIDES), st.integers(1, 5)),
)
CASES = [((97, 61), 2.7), ((97, 61), 1.5), ((61, 97), 4.0), ((1, 1), 4.0), ((1, 40), 2.7),
         ((40, 1), 8.0), ((14, 23), 1.1), ((33, 20), 3.0)]  # fmt: skip
few = settings(deadline=None, max_examples=25)


def random(*size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense_d(h: int, H: int) -> Tensor:
    """`D` [h, H] column by column, from the operator itself."""
    return axis_factors(h, H, torch.float64, torch.device("cpu")).down.along_rows(
        torch.eye(H, dtype=torch.float64)
    )


@pytest.mark.parametrize(("size", "scale"), CASES)
def test_agrees_with_pillow_on_floats(size: tuple[int, int], scale: float) -> None:
    operator = BicubicDownscale(size, scale)
    x = random(*operator.image_size, dtype=torch.float32)
    theirs = Image.fromarray(x.numpy()).resize(size[::-1], Image.Resampling.BICUBIC)
    torch.testing.assert_close(operator.A(x), torch.from_numpy(np.array(theirs)), atol=2e-5, rtol=0)


@pytest.mark.parametrize(("size", "scale"), CASES)
def test_interpolation_is_pillows_but_for_the_border(size: tuple[int, int], scale: float) -> None:
    operator = BicubicDownscale(size, scale)
    y = random(*size, dtype=torch.float32)
    theirs = np.array(
        Image.fromarray(y.numpy()).resize(operator.image_size[::-1], Image.Resampling.BICUBIC)
    )
    border = math.ceil(4 * scale)
    inner = slice(border, -border), slice(border, -border)
    np.testing.assert_allclose(operator.interpolate(y).numpy()[inner], theirs[inner], atol=0.02)
    assert float((operator.interpolate(y) - torch.from_numpy(theirs)).abs().max()) < 0.2


@few
@given(operator=OPERATORS, level=st.floats(-3, 3))
def test_interpolation_keeps_a_flat_picture_flat(operator: LinearOperator, level: float) -> None:
    flat = torch.full(operator.measurement_size, level, dtype=torch.float64)
    expected = torch.full(operator.image_size, level, dtype=torch.float64)
    torch.testing.assert_close(operator.interpolate(flat), expected, atol=1e-9, rtol=0)


@few
@given(operator=OPERATORS, seed=st.integers(0, 1000))
def test_penrose_conditions(operator: LinearOperator, seed: int) -> None:
    x = random(*operator.image_size, seed=seed)
    other_x = random(*operator.image_size, seed=seed + 1)
    y = random(*operator.measurement_size, seed=seed + 2)
    other_y = random(*operator.measurement_size, seed=seed + 3)
    seen, filled = operator.A(x), operator.pinv(y)
    torch.testing.assert_close(operator.A(operator.pinv(seen)), seen, atol=1e-12, rtol=0)
    torch.testing.assert_close(operator.pinv(operator.A(filled)), filled, atol=1e-12, rtol=0)
    # A†A and AA† are symmetric.
    assert math.isclose(
        float((other_x * operator.pinv(operator.A(x))).sum()),
        float((operator.pinv(operator.A(other_x)) * x).sum()),
        abs_tol=1e-9,
    )
    assert math.isclose(
        float((other_y * operator.A(operator.pinv(y))).sum()),
        float((operator.A(operator.pinv(other_y)) * y).sum()),
        abs_tol=1e-9,
    )


@few
@given(operator=OPERATORS, a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_operators_are_linear_and_never_clip(operator: LinearOperator, a: float, b: float) -> None:
    p, q = 10 * random(2, *operator.image_size, seed=4) - 5
    torch.testing.assert_close(
        operator.A(a * p + b * q), a * operator.A(p) + b * operator.A(q), atol=1e-11, rtol=0
    )
    u, v = 10 * random(2, *operator.measurement_size, seed=5) - 5
    torch.testing.assert_close(
        operator.pinv(a * u + b * v),
        a * operator.pinv(u) + b * operator.pinv(v),
        atol=1e-11,
        rtol=0,
    )


@pytest.mark.parametrize(("h", "scale"), [(300, 1.1), (300, 2.7), (130, 8.0), (201, 1.5)])
def test_inverse_by_windows_is_numpys(h: int, scale: float) -> None:
    H = output_side(h, scale)
    factors = axis_factors(h, H, torch.float64, torch.device("cpu"))
    pinv = factors.up.along_rows(factors.gram_inverse.along_rows(torch.eye(h, dtype=torch.float64)))
    expected = np.linalg.pinv(dense_d(h, H).numpy())
    np.testing.assert_allclose(pinv.numpy(), expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize("scale", [1.1, 1.5, 2.7, 8.0])
@pytest.mark.parametrize("h", [1, 2, 30, 49, 300])
def test_no_eigenvalue_is_above_its_bound_or_far_below(h: int, scale: float) -> None:
    H = output_side(h, scale)
    d = dense_d(h, H)
    largest = float(torch.linalg.eigvalsh(d @ d.mT)[-1])
    bound = axis_factors(h, H, torch.float64, torch.device("cpu")).gram_norm
    assert 0.98 * bound < largest < bound


def test_condition_number_is_small() -> None:
    worst = 0.0
    for h in (*range(1, 40), 97, 128):
        for scale in (1.1, 1.2, 1.5, 2.0, 2.7, 4.0):
            d = dense_d(h, output_side(h, scale))
            worst = max(worst, float(torch.linalg.cond(d @ d.mT)))
    assert worst <= 4.5


def test_stored_factors_grow_linearly() -> None:
    def stored(h: int) -> int:
        factors = axis_factors(h, 4 * h, torch.float64, torch.device("cpu"))
        matrices = (factors.down, factors.up, factors.gram_inverse)
        return sum(block.numel() for m in matrices for _, block in m.blocks)

    assert stored(2048) < 4.2 * stored(512)
    assert stored(2048) < 2048 * 8192 / 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_applied_in_float32_whatever_the_precision_around(dtype: torch.dtype) -> None:
    operator = BicubicDownscale((40, 30), 4)
    x = random(3, *operator.image_size, dtype=torch.float32).to(dtype)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = operator.A(x)
            with exact_products(x.device):
                pinv = operator.pinv(y)
                assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
                again = operator.A(pinv)
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, operator.A(x.double()).float(), atol=2e-6, rtol=0)
    torch.testing.assert_close(again, y, atol=5e-6, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_same_on_cuda() -> None:
    operator = BicubicDownscale((97, 61), 2.7)
    x = random(3, *operator.image_size, dtype=torch.float32)
    torch.testing.assert_close(operator.A(x.cuda()).cpu(), operator.A(x), atol=1e-5, rtol=0)
    y = operator.A(x)
    torch.testing.assert_close(operator.pinv(y.cuda()).cpu(), operator.pinv(y), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("side", "scale", "expected"),
    [(97, 2.7, 262), (61, 2.7, 165), (5, 1.5, 8), (1, 1.1, 1), (7, 1, 7), (128, 4, 512)],
)
def test_output_side(side: int, scale: float, expected: int) -> None:
    assert output_side(side, scale) == expected


@pytest.mark.parametrize("scale", [0.0, 0.5, 0.999, 1.001, 1.0999, -2.0, math.nan, math.inf])
def test_scales_that_are_refused(scale: float) -> None:
    with pytest.raises(InvalidParameter) as caught:
        BicubicDownscale((10, 10), scale)
    assert caught.value.field == "scale"


def test_scale_one_is_the_identity() -> None:
    operator = BicubicDownscale((13, 9), 1)
    x = random(2, 13, 9)
    assert torch.equal(operator.A(x), x)
    torch.testing.assert_close(operator.pinv(x), x, atol=1e-15, rtol=0)


@few
@given(size=st.tuples(SIDES, SIDES), multiple=st.sampled_from([1, 2, 16, 64]))
def test_canvas_crop_undoes_extend(size: tuple[int, int], multiple: int) -> None:
    canvas, x = Canvas(size, multiple), random(3, *size)
    extended = canvas.extend(x)
    assert extended.shape[1:] == canvas.size
    for side, canvas_side in zip(size, canvas.size, strict=True):
        assert canvas_side % multiple == 0
        assert side <= canvas_side < side + multiple
    assert torch.equal(canvas.crop(extended), x)
    # Only the image's own samples are repeated.
    assert set(extended.unique().tolist()) == set(x.unique().tolist())


def test_canvas_reflects() -> None:
    x = torch.arange(3.0).expand(1, 1, 3)
    assert Canvas((1, 3), 8).extend(x)[0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert torch.equal(Canvas((1, 1), 16).extend(torch.ones(1, 1)), torch.ones(16, 16))


@few
@given(operator=OPERATORS, strength=st.floats(0, 1.5), seed=st.integers(0, 1000))
def test_projection_keeps_its_promises(
    operator: LinearOperator, strength: float, seed: int
) -> None:
    canvas = Canvas(operator.image_size, 16)
    x = random(3, *canvas.size, seed=seed, dtype=torch.float32)
    y = random(3, *operator.measurement_size, seed=seed + 1, dtype=torch.float32)
    pinv_y = operator.pinv(y)

    def projected(x: Tensor, strength: float) -> Tensor:
        return project(
            x, pinv_y=pinv_y, operator=operator, canvas=canvas, guidance_strength=strength
        )

    consistent = operator.A(canvas.crop(projected(x, strength)))
    torch.testing.assert_close(consistent, y, atol=1e-5, rtol=0)
    once = projected(x, 1.0)
    torch.testing.assert_close(projected(once, 1.0), once, atol=1e-5, rtol=0)
    torch.testing.assert_close(canvas.crop(projected(x, 0.0)), pinv_y, atol=1e-6, rtol=0)
