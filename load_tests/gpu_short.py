"""Pictures where memory is short, in a process that has our model on the device and nothing else.

    python load_tests/gpu_short.py CHECKPOINT 1.5 0.6 --device cuda --dtype bfloat16

For each share, room is left for that share of one decoded row beside what the process keeps
(weights, graphs, conditioning, workspaces) and what four pictures hold, and four pictures come at
once, their batches as large as if that paid. One JSON line a share. `bench_gpu.py` runs it: another
network in the process would leave holes in the allocator's memory, and who knows what fits there.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "load_tests")]

from gpu_models import as_we_run_it  # noqa: E402
from gpu_report import Figures  # noqa: E402
from gpu_requests import engine_serves, picture_request  # noqa: E402
from gpu_watched import Watched  # noqa: E402

from nullscale.maths.params import UpscaleParams  # noqa: E402
from sr_engine.caps import native_kinds  # noqa: E402
from sr_engine.engine import SREngine  # noqa: E402
from sr_engine.model import Model  # noqa: E402
from sr_engine.request import UpscaleRequest  # noqa: E402

PICTURES = 4
PARAMS = UpscaleParams(num_inference_steps=2, seed=0)


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes that one decoded row takes, and that all pictures hold between their batches."""

    row: int
    pictures: int


def short_of_memory(model: Model, share: float, needs: Needs | None) -> Figures:
    """Leave memory for a ``share`` of one decoded row beside the pictures; do they all come?

    Args:
        needs: None without a GPU: the model then refuses batches instead.
    """
    watched = Watched(model)
    engine, given = _eager_to_batch(watched), _pictures(model)
    told: dict[str, int] = {}
    if needs is None:
        watched.most_rows = max(1, int(share))
        served = engine_serves(engine, given, [0.0] * len(given))
    else:
        torch.cuda.empty_cache()
        # Reserved, not allocated: graphs have memory that nobody holds between their replays.
        kept = torch.cuda.memory_reserved()
        room = int(needs.pictures + share * needs.row)
        told |= {"row_bytes": needs.row, "pictures_bytes": needs.pictures, "kept_bytes": kept}
        told["allocated_bytes"] = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        with _at_most(kept + room):
            served = engine_serves(engine, given, [0.0] * len(given))
        told |= {"room_bytes": room, "used_bytes": torch.cuda.max_memory_reserved() - kept}
    caps = {kind.phase.value: engine.runner.costs.cap(kind) for kind in native_kinds(model.info)}
    return {
        "room_for_rows": share,
        "asked": len(given),
        "finished": len(served.latencies_s),
        "out_of_memory": watched.refused,
        "caps": caps,
        "weights_bytes": model.info.memory_bytes,
        **told,
        **watched.batches(),
    }


def warm_up(model: Model) -> Needs | None:
    """Draw such pictures until nothing is made for the first time; return what they need.

    What was made stays: compiled kernels, workspaces, recorded graphs, conditioning.
    """
    engine, cuda = SREngine(model), model.info.device.startswith("cuda")
    for request in _pictures(model)[:2]:
        engine.upscale(request.image, PARAMS)
    if not cuda:
        return None
    side = model.info.native_px // model.info.vae_factor
    latents = torch.zeros(1, model.info.latent_channels, side, side, device=model.info.device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.inference_mode():
        model.decode(latents)
    row, held = torch.cuda.max_memory_allocated() - before, 0
    engine = _eager_to_batch(Watched(model))
    for request in _pictures(model):
        engine.add_request(request)
    while engine.has_work():
        engine.step()
        held = max(held, torch.cuda.memory_allocated() - before)
    return Needs(row, held)


def _pictures(model: Model) -> list[UpscaleRequest]:
    return [picture_request(str(n), model.info.native_px, PARAMS) for n in range(PICTURES)]


def _eager_to_batch(watched: Watched) -> SREngine:
    """Return an engine whose batches are as large as if that paid: does memory bear them?"""
    engine = watched.engine()
    for kind in native_kinds(watched.info):
        for rows in (1, 2, 4):
            for _ in range(5):
                engine.runner.costs.observe(kind, rows, 1e-6)
    return engine


@contextmanager
def _at_most(size: int) -> Iterator[None]:
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, size / whole))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("shares", type=float, nargs="+", help="of a decoded row")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    args = parser.parse_args()
    model = as_we_run_it(args.checkpoint, args.device, getattr(torch, args.dtype))
    needs = warm_up(model)
    for share in args.shares:
        print(json.dumps(short_of_memory(model, share, needs)), flush=True)


if __name__ == "__main__":
    main()
