"""All that a GPU must decide, in one command: phases, pictures, a mixed load, and short memory.

    python load_tests/bench_gpu.py              on a CUDA device; some minutes
    python load_tests/bench_gpu.py --save       keeps the figures (docs/measurements/gpu/)
    python load_tests/bench_gpu.py --dry-run    on a CPU, tiny networks: shows that it runs

It needs PyTorch, diffusers and this repository with the libraries that `nullscale` imports; no Ray,
no pytest and no weights: the networks have SD3.5's published architecture and random weights in
bfloat16. One JSON line a measurement; the last line is a JSON object with all of them:

limits       bytes a second of a large copy (read and written), operations a second of a product of
             large bfloat16 matrices; every floor is computed from these two
same_image   the bundled model's picture here, in float32 and bfloat16, against the CPU's in float32
phase        velocity, decode and encode of batches of tiles: ``stock`` is diffusers run eagerly,
             ``ours`` what the service loads; ``peak_bytes`` beside the weights
projection   Π of a picture; ``rounding`` the exact rounding at its end
one_picture  a naive loop on stock modules against our engine, and the floor, 8 steps
cheaper      that loop against our engine with a draft autoencoder, then with fewer projections too
saturated    our engine with 32 requests at once: its capacity in this mix
mixed        the same at 0.8 of that capacity (Poisson): ours, one at a time, whole-request batches,
             all on the same networks
short        memory for so many rows of the decoder, in a process of its own (`gpu_short.py`): do
             all pictures come?
quantized    the transformer's weights in fewer bits, likewise (`gpu_quantized.py`)

Phases of SD3.5-large and fewer bits come last: when time runs out, it is they that are skipped.
"""

import argparse
import importlib.metadata
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
# On a bare machine the package is not installed.
sys.path[:0] = [str(ROOT), str(ROOT / "load_tests")]

from gpu_floors import Floors, Limits, measure_limits  # noqa: E402
from gpu_models import (  # noqa: E402
    REAL,
    Bench,
    StockModel,
    as_we_run_it,
    dry,
    random_networks,
    save_checkpoint,
)
from gpu_phases import ROWS, maths, phases  # noqa: E402
from gpu_processes import said_by  # noqa: E402
from gpu_report import Figures, Report, rounded  # noqa: E402
from gpu_requests import (  # noqa: E402
    CHEAPER,
    MIX,
    cheaper,
    mixed,
    one_picture,
    requests,
    saturated,
    ways,
)
from gpu_watched import Watched  # noqa: E402

from nullscale.networks.loading import load_model  # noqa: E402
from nullscale.networks.memory import QUANTIZATIONS  # noqa: E402
from nullscale.scheduling.work import Phase  # noqa: E402
from sr_engine.engine import SREngine  # noqa: E402
from sr_engine.model import Model  # noqa: E402

FOLDER = ROOT / "docs" / "measurements" / "gpu"
SHM = Path("/dev/shm")
ROOM_FOR_ROWS = (1.5, 0.6)
SHORT, QUANTIZED = (str(ROOT / "load_tests" / f"gpu_{name}.py") for name in ("short", "quantized"))
NOTHING_SAID = {"error": "nothing said"}


@dataclass(frozen=True, slots=True)
class Effort:
    """What is run on which device, and how much of it."""

    benches: tuple[Bench, ...] = REAL
    device: str = "cuda"
    dtype: torch.dtype = torch.bfloat16
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    rows: tuple[int, ...] = ROWS
    steps: int = 8
    requests: int = len(MIX)
    limits: Mapping[str, int] = field(default_factory=dict)

    def place(self) -> tuple[str, ...]:
        """Return device and dtype as scripts take them."""
        return "--device", self.device, "--dtype", str(self.dtype).removeprefix("torch.")


def dry_effort() -> Effort:
    """Return what a CPU does in a minute; most of them are slow in bfloat16."""
    return Effort(
        benches=dry(),
        device="cpu",
        dtype=torch.float32,
        dtypes=("float32",),
        rows=(1, 2),
        steps=2,
        requests=4,
        limits={"side": 256, "megabytes": 16},
    )


def measure(report: Report, effort: Effort, scratch: Path) -> None:
    """Take every measurement, in the order of their worth."""
    device, dtype = effort.device, effort.dtype
    found: list[Limits] = []

    def limits_told() -> Figures:
        found.append(measure_limits(device, dtype, **effort.limits))
        return {"bytes_s": rounded(found[0].bytes_s), "flop_s": rounded(found[0].flop_s)}

    report.measure("limits", limits_told)
    if not found:
        return
    for name in effort.dtypes:
        report.measure("same_image", lambda name=name: same_image(device, name), dtype=name)
    medium, large = effort.benches
    floors = Floors(medium, found[0], dtype)
    stock, ours = both(report, medium, effort, scratch)
    for how, model in (("stock", stock), ("ours", ours)):
        if model is not None:
            phases(report, medium, how, model, floors, rows=effort.rows)
    maths(report, medium.sides_px, device, found[0])
    if stock is not None and ours is not None:
        alone = report.measure(
            "one_picture",
            lambda: one_picture(stock, ours, floors, steps=effort.steps),
            model=medium.name,
        )
        for how, changed in CHEAPER.items() if alone else ():
            report.measure(
                "cheaper",
                lambda changed=changed: cheaper(
                    ours, alone["naive_s"], changed, steps=effort.steps
                ),
                model=medium.name,
                how=how,
            )
    del stock
    if ours is not None:
        whole(report, medium, ours, effort, scratch / medium.name)
    ours = None
    floors = Floors(large, found[0], dtype)
    stock, ours = both(report, large, effort, scratch)
    for how, model in (("stock", stock), ("ours", ours)):
        if model is not None:
            # The autoencoder is the same one.
            phases(report, large, how, model, floors, which=[Phase.DENOISE], rows=effort.rows)


def whole(report: Report, bench: Bench, ours: Model, effort: Effort, folder: Path) -> None:
    """Measure loads and short memory on the networks as we run them.

    folder: where their weights are.
    """
    given = requests(ours.info.native_px, effort.requests)
    watched = Watched(ours)
    engine = watched.engine()
    found = report.measure("saturated", lambda: saturated(watched, engine, given), model=bench.name)
    for how, way in ways(ours, watched, engine).items() if found else ():
        report.measure(
            "mixed",
            lambda way=way: mixed(given, found["requests_a_s"], *way),
            model=bench.name,
            how=how,
        )
    short = said_by(SHORT, folder, *ROOM_FOR_ROWS, *effort.place(), left_s=report.left_s())
    for _ in ROOM_FOR_ROWS:
        report.measure("short", lambda: next(short, NOTHING_SAID), model=bench.name)


def fewer_bits(report: Report, effort: Effort, scratch: Path) -> None:
    """Measure quantised transformers, when no other network is on the device any more."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    for bench in effort.benches:
        given = (scratch / bench.name, *effort.place())
        said = said_by(QUANTIZED, *given, left_s=report.left_s())
        for _ in QUANTIZATIONS:
            report.measure(
                "quantized", lambda said=said: next(said, NOTHING_SAID), model=bench.name
            )


def both(
    report: Report, bench: Bench, effort: Effort, scratch: Path
) -> tuple[StockModel | None, Model | None]:
    """Make a model with random weights, stock and as we run it; None is what could not be made."""
    made: dict[str, Any] = {}
    folder = scratch / bench.name

    def build() -> Figures:
        networks = random_networks(bench.architecture, effort.device, effort.dtype)
        save_checkpoint(folder, networks, bench)
        made["stock"] = StockModel(networks, bench)
        return {}

    def load() -> Figures:
        made["ours"] = as_we_run_it(folder, effort.device, effort.dtype)
        return {"weights_bytes": made["ours"].info.memory_bytes}

    report.measure("build", build, model=bench.name, native_px=bench.sides_px[0])
    report.measure("load", load, model=bench.name)
    return made.get("stock"), made.get("ours")


def same_image(device: str, dtype: str) -> Figures:
    """Compare the bundled model's picture with that of the CPU in float32."""
    ramp = np.linspace(0, 6.3, 16)
    image = 128 + 100 * np.sin(ramp)[:, None, None] * np.cos(ramp)[None, :, None] * np.ones(3)
    pictures = []
    for where, number in (("cpu", "float32"), (device, dtype)):
        engine = SREngine(load_model("bundled", device=where, dtype=number))
        params = engine.model.defaults.override({"seed": 7, "num_inference_steps": 2})
        pictures.append(engine.upscale(image.astype(np.uint8), params).unrounded)
    apart = (pictures[0] - pictures[1]).abs()
    psnr_db = -10 * torch.log10((apart**2).mean().clamp(min=1e-20))
    return {"largest_difference": rounded(float(apart.max())), "psnr_db": rounded(float(psnr_db))}


def machine_of(device: str) -> dict[str, Any]:
    """Say what these figures are of."""
    cuda = device.startswith("cuda")
    return {
        "gpu": torch.cuda.get_device_name(0) if cuda else None,
        "gpu_bytes": torch.cuda.get_device_properties(0).total_memory if cuda else None,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "diffusers": importlib.metadata.version("diffusers"),
        "command": "python load_tests/bench_gpu.py " + " ".join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, tiny; figures of nothing")
    parser.add_argument("--budget-s", type=float, default=440, help="begin nothing after that")
    parser.add_argument("--scratch", type=Path, help="for checkpoints, 22 GB; /dev/shm if it is")
    parser.add_argument("--save", action="store_true", help="keep the figures")
    args = parser.parse_args()
    if args.dry_run and args.save:
        parser.error("a dry run's figures are not kept")
    if not args.dry_run and not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA device; --dry-run shows on a CPU that it runs")
    effort = dry_effort() if args.dry_run else Effort()
    report = Report(args.budget_s, **({"dry_run": True} if args.dry_run else {}))
    place = args.scratch or (SHM if SHM.is_dir() and not args.dry_run else None)
    with tempfile.TemporaryDirectory(dir=place) as scratch, torch.no_grad():
        measure(report, effort, Path(scratch))
        fewer_bits(report, effort, Path(scratch))
    machine = machine_of(effort.device)
    result = {"dry_run": args.dry_run, "machine": machine, "figures": report.lines}
    if args.save:
        FOLDER.mkdir(parents=True, exist_ok=True)
        name = "-".join(machine["gpu"].lower().split())
        (FOLDER / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
