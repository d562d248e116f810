"""GPUs by their published figures: how long each of a model's networks takes on them."""

from collections.abc import Mapping
from dataclasses import dataclass

from sr_engine.work import Kind, Phase, Plan


@dataclass(frozen=True, slots=True)
class Device:
    """A model on a GPU.

    Attributes:
        native: latent cells a side of the native tile.
        alone_s: seconds of one native tile alone, by phase.
        shared: share of that which a batch pays once, however many rows it has.
    """

    native: int
    alone_s: Mapping[Phase, float]
    shared: float

    def batch_s(self, kind: Kind, rows: int) -> float:
        """Return the seconds of a batch, in proportion to the tile's area."""
        alone_s = self.alone_s[kind.phase] * kind.cells / self.native**2
        return alone_s * (self.shared + (1 - self.shared) * rows)

    def plan_s(self, plan: Plan, cap: int = 1) -> float:
        """Return the seconds of a plan alone on the device, its rows batched up to ``cap``."""
        total = 0.0
        for stage in plan:
            full, rest = divmod(stage.rows, cap)
            total += full * self.batch_s(stage.kind, cap)
            total += self.batch_s(stage.kind, rest) if rest else 0.0
        return total


DEVICES: Mapping[str, Device] = {
    # Counted floating-point work at 800 TFLOP/s; a second row of 20 B parameters cost 1.02×.
    "sd3.5-medium-h100": Device(
        128, {Phase.DENOISE: 0.0141, Phase.DECODE: 0.0131, Phase.ENCODE: 0.0061}, 0.02
    ),
    "sd3.5-large-h100": Device(
        128, {Phase.DENOISE: 0.0389, Phase.DECODE: 0.0131, Phase.ENCODE: 0.0061}, 0.02
    ),
}
