"""Tiles cover the field, and blending what was cut gives it back."""

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nullscale.maths.tiling import Tile, blend, cover

SIDES = st.integers(1, 90)


@settings(deadline=None, max_examples=80)
@given(height=SIDES, width=SIDES, tile=st.integers(4, 40), share=st.sampled_from([4, 8]))
def test_blend_of_cut_tiles_is_the_field(height: int, width: int, tile: int, share: int) -> None:
    field = torch.randn(2, height, width, dtype=torch.float64)
    tiles = cover(height, width, tile, tile // share)
    blended = blend(tiles, [t.cut(field) for t in tiles], tile // share)
    torch.testing.assert_close(blended, field, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=80)
@given(height=SIDES, width=SIDES, tile=st.integers(4, 40), multiple=st.integers(1, 8))
def test_tiles_share_one_shape_and_stay_inside(
    height: int, width: int, tile: int, multiple: int
) -> None:
    tiles = cover(height, width, tile, tile // 4, multiple)
    ((tall, wide),) = {(t.height, t.width) for t in tiles}
    assert all(0 <= t.top <= height - t.height for t in tiles)
    assert all(0 <= t.left <= width - t.width for t in tiles)
    lefts = sorted({t.left for t in tiles})
    assert all(b - a <= wide - tile // 4 for a, b in pairwise(lefts))
    for length, side in ((tall, height), (wide, width)):
        assert length <= tile
        assert length in (tile, side) or length % multiple == 0


@settings(deadline=None, max_examples=80)
@given(side=SIDES, tile=st.integers(4, 40))
def test_tiles_are_as_few_and_as_short_as_they_may_be(side: int, tile: int) -> None:
    overlap = tile // 4
    tiles = cover(1, side, tile, overlap)

    def reached(count: int, length: int) -> int:
        return count * length - (count - 1) * overlap

    assert len(tiles) == 1 or reached(len(tiles) - 1, tile) < side
    assert reached(len(tiles), tiles[0].width - 1) < side


def test_a_side_that_is_an_exact_multiple_needs_no_extra_tile() -> None:
    assert len(cover(32, 96, 32, 0)) == 3


def test_weights_leave_no_step_at_a_tile_border() -> None:
    tiles = cover(16, 28, 16, 4)
    values = [torch.full((1, 16, 16), float(i)) for i in range(len(tiles))]
    row = blend(tiles, values, 4)[0, 8]
    assert row[0] == 0
    assert row[-1] == 1
    assert row.diff().max() <= 0.3
    assert row.diff().min() >= 0


def test_scaled_tile_covers_the_same_part() -> None:
    assert Tile(1, 2, 3, 4).scaled(8) == Tile(8, 16, 24, 32)
