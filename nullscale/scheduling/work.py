"""The engine's work in words: phases of a step, kinds of rows, the plan of a request."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable


class Phase(StrEnum):
    """A network call of a step; only tiles in the same phase can share a batch."""

    DENOISE = "denoise"
    DECODE = "decode"
    ENCODE = "encode"


class Variant(StrEnum):
    """Which of a model's networks compute a row; `DRAFT` has an autoencoder only."""

    BASE = "base"
    DRAFT = "draft"
    FLOAT32 = "float32"


class Kind(NamedTuple):
    """What the rows of a batch have in common: the phase, and the tile's sides in latent cells."""

    phase: Phase
    height: int
    width: int
    variant: Variant = Variant.BASE

    @property
    def cells(self) -> int:
        """The tile's area."""
        return self.height * self.width


@dataclass(frozen=True, slots=True)
class Caps:
    """How much an engine takes on at once; they may change while it works.

    Attributes:
        max_active: requests that may hold latents and pixels at once; the rest wait.
        max_active_pixels: of output that those may have in all.
        max_batch_rows: rows of a batch, whatever its phase; the engine's own limits hold besides.
    """

    max_active: int
    max_active_pixels: int
    max_batch_rows: int

    def __post_init__(self) -> None:
        if min(self.max_active, self.max_active_pixels, self.max_batch_rows) < 1:
            raise ValueError(f"caps must be at least 1: {self}")


@dataclass(frozen=True, slots=True)
class TileLimits:
    """Longest sides of tiles in pixels, where memory is too short for a model's own tiles.

    Attributes:
        denoise_px: of the transformer's; None leaves them as they are.
        vae_px: of the autoencoder's.
    """

    denoise_px: int | None = None
    vae_px: int | None = None


UNLIMITED = TileLimits()


@dataclass(frozen=True, slots=True)
class Stage:
    """Rows of one kind that a request needs before it can go on."""

    kind: Kind
    rows: int


Plan = tuple[Stage, ...]
"""All that a request will ask of the networks, in order."""


class TileTask(NamedTuple):
    """One row of one stage of one request."""

    request_id: str
    kind: Kind
    row: int


@runtime_checkable
class CostModel(Protocol):
    """What the scheduler has to know about batches; `costs.Costs` measures it."""

    def cap(self, kind: Kind) -> int:
        """Return how many rows a batch may hold."""

    def row_s(self, kind: Kind) -> float:
        """Return the seconds of a row in a full batch."""

    def measured(self, kind: Kind) -> bool:
        """Say whether batches of this kind have run."""

    def batch_s(self, kind: Kind, rows: int) -> float:
        """Return the seconds of a batch of so many rows."""
