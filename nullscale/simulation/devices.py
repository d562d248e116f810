"""GPUs by their figures, published or measured: how long each of a model's networks takes on them.

They stand in ``devices.json``, each with its origin; `tools/device_table.py` adds measured ones.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl

from nullscale.errors import ModelLoadError
from nullscale.scheduling.work import Kind, Phase, Plan

PREFIX = "simulated:"

TABLE = Path(__file__).parent / "devices.json"

LEAST = {"slow": 0.001, "load_s": 0.0}
"""Options of a device and their smallest values."""
MAX_OPTION = 10_000.0


@dataclass(frozen=True, slots=True)
class Device:
    """A model on a GPU.

    Attributes:
        native: latent cells a side of the native tile.
        alone_s: seconds of one native tile alone, by phase.
        shared: share of that which a batch pays once, however many rows it has.
        slow: factor on all times, to try a cluster on a machine that is slower than its GPUs.
        load_s: seconds until the model is loaded, which ``slow`` leaves as they are.
    """

    native: int
    alone_s: Mapping[Phase, float]
    shared: float
    slow: float = 1.0
    load_s: float = 0.0

    def batch_s(self, kind: Kind, rows: int) -> float:
        """Return the seconds of a batch, in proportion to the tile's area."""
        alone_s = self.slow * self.alone_s[kind.phase] * kind.cells / self.native**2
        return alone_s * (self.shared + (1 - self.shared) * rows)

    def plan_s(self, plan: Plan, cap: int = 1) -> float:
        """Return the seconds of a plan alone on the device, its rows batched up to ``cap``."""
        total = 0.0
        for stage in plan:
            full, rest = divmod(stage.rows, cap)
            total += full * self.batch_s(stage.kind, cap)
            total += self.batch_s(stage.kind, rest) if rest else 0.0
        return total


def read_devices(path: Path = TABLE) -> dict[str, Device]:
    """Return the devices of a table, by name."""
    content = json.loads(path.read_text())
    return {
        name: Device(
            native=one["native"],
            alone_s={Phase(phase): seconds for phase, seconds in one["alone_s"].items()},
            shared=one["shared"],
        )
        for name, one in content.items()
    }


DEVICES: Mapping[str, Device] = read_devices()


def find_device(name: str) -> Device:
    """Return a device by its name in `DEVICES`, set by options: ``sd3.5-medium-h100?slow=5``.

    Raises:
        ModelLoadError: there is none of that name, or an option is unknown or out of range.
    """
    name, _, query = name.partition("?")
    if name not in DEVICES:
        raise ModelLoadError(f"{PREFIX}{name}: unknown; there are {', '.join(DEVICES)}")
    options: dict[str, float] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in LEAST or key in options:
            raise ModelLoadError(f"{PREFIX}{name}: options are {' and '.join(LEAST)}, each once")
        options[key] = _number(name, key, value)
    device = DEVICES[name]
    return replace(
        device, slow=options.get("slow", device.slow), load_s=options.get("load_s", device.load_s)
    )


def _number(name: str, key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not LEAST[key] <= number <= MAX_OPTION:
        message = f"{PREFIX}{name}: {key} is a number from {LEAST[key]:g} to {MAX_OPTION:g}"
        raise ModelLoadError(f"{message}, not {value!r}")
    return number
