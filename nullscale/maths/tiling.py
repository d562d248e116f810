"""Cutting a large field into overlapping tiles and blending the tiles back.

Averaging overlapping velocities with smooth weights is MultiDiffusion (Bar-Tal et al. 2023, Eq. 5)
for a flow model, where averaging velocities is averaging x0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of a field, in cells of the field's own grid."""

    top: int
    left: int
    height: int
    width: int

    def scaled(self, factor: int) -> "Tile":
        """Return the same rectangle on a grid ``factor`` times finer."""
        return Tile(*(factor * n for n in (self.top, self.left, self.height, self.width)))

    def cut(self, field: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b th tw"]:
        """Return this rectangle of ``field``, a view."""
        rows = slice(self.top, self.top + self.height)
        return field[..., rows, self.left : self.left + self.width]


def cover(height: int, width: int, tile: int, overlap: int, multiple: int = 1) -> tuple[Tile, ...]:
    """Cover a field by equal tiles, evenly spread, neighbours sharing at least ``overlap`` cells.

    Along each axis there are as few as sides of up to ``tile`` allow, and they are as short as that
    many may be, in multiples of ``multiple``: longer ones would share more and show no more. An
    axis shorter than ``tile`` takes one tile of its own length. No tile reaches outside.
    """
    tall, rows = _spread(height, tile, overlap, multiple)
    wide, columns = _spread(width, tile, overlap, multiple)
    return tuple(Tile(top, left, tall, wide) for top, left in product(rows, columns))


def blend(
    tiles: Sequence[Tile], values: Sequence[Float[Tensor, "*b th tw"]], ramp: int
) -> Float[Tensor, "*b h w"]:
    """Average tiles into one field, each tile's weight falling off over ``ramp`` cells at its edge.

    The weights add up to one everywhere, so that blending what was cut gives the field back; a
    single tile is returned as it is.
    """
    if len(tiles) == 1:
        return values[0]
    height = max(t.top + t.height for t in tiles)
    width = max(t.left + t.width for t in tiles)
    down, along = (
        _ramp(side, ramp, values[0].device) for side in (tiles[0].height, tiles[0].width)
    )
    weight = (down[:, None] * along).to(values[0])
    total = weight.new_zeros(height, width)
    field = values[0].new_zeros(*values[0].shape[:-2], height, width)
    for tile, value in zip(tiles, values, strict=True):
        tile.cut(total).add_(weight)
        tile.cut(field).add_(weight * value)
    return field.div_(total)


def _spread(side: int, tile: int, overlap: int, multiple: int) -> tuple[int, list[int]]:
    """Return the length of an axis's tiles, and where each starts."""
    if side <= tile:
        return side, [0]
    count = math.ceil((side - overlap) / (tile - overlap))
    shortest = (side + (count - 1) * overlap) / count
    length = min(tile, multiple * math.ceil(shortest / multiple))
    return length, [round(i * (side - length) / (count - 1)) for i in range(count)]


def _ramp(side: int, ramp: int, device: torch.device) -> Tensor:
    """Return the weights [side] along one axis: linear at both ends, 1 between."""
    distance = torch.arange(1, side + 1, dtype=torch.float32, device=device)
    return torch.minimum(distance, distance.flip(0)).clamp(max=ramp + 1) / (ramp + 1)
