"""Cutting a large field into overlapping tiles and blending the tiles back.

Averaging overlapping velocities with smooth weights is MultiDiffusion (Bar-Tal et al. 2023, Eq. 5)
for a flow model, where averaging velocities is averaging x0.
"""

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


def cover(height: int, width: int, tile: int, overlap: int) -> tuple[Tile, ...]:
    """Cover a field by equal tiles, evenly spread, neighbours sharing at least ``overlap`` cells.

    An axis shorter than ``tile`` takes one tile of its own length. No tile reaches outside.
    """
    rows, cols = _starts(height, tile, overlap), _starts(width, tile, overlap)
    sides = min(tile, height), min(tile, width)
    return tuple(Tile(top, left, *sides) for top, left in product(rows, cols))


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


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    if side <= tile:
        return [0]
    count = -(-(side - overlap) // (tile - overlap))
    return [round(i * (side - tile) / (count - 1)) for i in range(count)]


def _ramp(side: int, ramp: int, device: torch.device) -> Tensor:
    """Return the weights [side] along one axis: linear at both ends, 1 between."""
    distance = torch.arange(1, side + 1, dtype=torch.float32, device=device)
    return torch.minimum(distance, distance.flip(0)).clamp(max=ramp + 1) / (ramp + 1)
