"""Makes a device of the simulated model out of what `load_tests/bench_gpu.py` measured on a GPU.

    python tools/device_table.py docs/measurements/gpu/nvidia-h100-80gb-hbm3.json \\
        --gpu h100-measured

writes an entry for each model in the result into `nullscale/simulation/devices.json`, named after
model and GPU (``sd3.5-medium-h100-measured``), in the place of what stood under that name. Of the
time of a batch, what it pays once and what each row costs are fitted by least squares to the
measured batches of native tiles.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nullscale.scheduling.work import Phase
from nullscale.simulation.devices import TABLE

LATENT_PX = 8


def entries(result: Mapping[str, Any], gpu: str | None = None) -> dict[str, Any]:
    """Return an entry for each model of a result.

    Args:
        gpu: short name; by default the word in the GPU's own that has a digit in it, "h100".

    Raises:
        ValueError: it is a dry run's, or lacks a phase.
    """
    if result["dry_run"]:
        raise ValueError("a dry run measures nothing")
    machine = result["machine"]
    gpu = gpu or _short(machine["gpu"])
    origin = (
        f"measured on {machine['gpu']}, torch {machine['torch']}, "
        f"{machine['date']}: {machine['command'].strip()}"
    )
    found = {}
    for build in (line for line in result["figures"] if line["measurement"] == "build"):
        times = _times(result["figures"], build["model"], build["native_px"])
        fitted = {phase: _fitted(rows) for phase, rows in times.items()}
        once, each = (sum(pair[i] for pair in fitted.values()) for i in (0, 1))
        found[f"{build['model']}-{gpu}"] = {
            "origin": origin,
            "native": build["native_px"] // LATENT_PX,
            "alone_s": {phase: round(sum(pair), 6) for phase, pair in fitted.items()},
            "shared": round(once / (once + each), 4),
        }
    return found


def _times(lines: list[dict[str, Any]], model: str, native_px: int) -> dict[str, dict[int, float]]:
    """Seconds by phase and rows; the autoencoder's are another model's where it has none itself."""
    times: dict[str, dict[int, float]] = {}
    for phase in Phase:
        fitting = [
            line
            for line in lines
            if (line["measurement"], line.get("how"), line.get("phase"), line.get("side_px"))
            == ("phase", "ours", phase, native_px)
            and "seconds" in line
        ]
        own = [line for line in fitting if line["model"] == model]
        if not own and phase is not Phase.DENOISE:
            own = fitting
        if not own:
            raise ValueError(f"{model}: no {phase.value} of {native_px} px was measured")
        times[phase.value] = {line["rows"]: line["seconds"] for line in own}
    return times


def _fitted(times: Mapping[int, float]) -> tuple[float, float]:
    """What a batch costs once, and each row; neither is negative."""
    rows, seconds = (np.array(list(values), float) for values in (times.keys(), times.values()))
    if len(rows) == 1:
        return 0.0, float(seconds[0] / rows[0])
    # Relative errors count: a batch of eight is not eight times as well known.
    each, once = np.polyfit(rows, seconds, 1, w=1 / seconds)
    if once < 0:
        return 0.0, float((seconds / rows).mean())
    return float(once), max(0.0, float(each))


def _short(gpu: str) -> str:
    words = gpu.lower().replace("-", " ").split()
    return next((word for word in words if any(c.isdigit() for c in word)), words[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, help="of bench_gpu.py --save")
    parser.add_argument("--gpu", help="its short name")
    parser.add_argument("--table", type=Path, default=TABLE)
    args = parser.parse_args()
    try:
        new = entries(json.loads(args.result.read_text()), args.gpu)
    except ValueError as err:
        parser.error(str(err))
    table = {**json.loads(args.table.read_text()), **new}
    args.table.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(new, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
