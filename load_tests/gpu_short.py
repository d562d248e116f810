"""Pictures where memory is short, in a process that has our model on the device and nothing else.

    python load_tests/gpu_short.py CHECKPOINT 1.5 0.6 --device cuda --dtype bfloat16

For each share, room is left for that share of one decoded row beside what the process keeps
(weights, graphs, conditioning, workspaces) and four pictures, and four pictures come at once, their
batches as large as if that paid. One JSON line a share. `bench_gpu.py` runs it: another network in
the process would leave holes in the allocator's memory, and who knows what fits into them.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "load_tests")]

from gpu_models import as_we_run_it  # noqa: E402
from gpu_report import Figures  # noqa: E402
from gpu_requests import engine_serves, picture_request  # noqa: E402
from gpu_watched import Watched  # noqa: E402

from sr_engine.caps import native_kinds  # noqa: E402
from sr_engine.engine import SREngine  # noqa: E402
from sr_engine.memory import BYTES_A_PIXEL  # noqa: E402
from sr_engine.request import UpscaleParams  # noqa: E402
from sr_engine.runner import Model  # noqa: E402

PICTURES = 4
PARAMS = UpscaleParams(num_inference_steps=2, seed=0)


def short_of_memory(model: Model, share: float, row_bytes: int | None) -> Figures:
    """Leave memory for a ``share`` of one decoded row beside the pictures; do they all come?

    Args:
        row_bytes: None without a GPU: the model then refuses batches instead.
    """
    watched = Watched(model)
    engine = watched.engine()
    # As if batches paid: what is tried here is what becomes of them.
    for kind in native_kinds(model.info):
        for rows in (1, 2, 4):
            for _ in range(5):
                engine.runner.costs.observe(kind, rows, 1e-6)
    native_px = model.info.native_px
    given = [picture_request(str(n), native_px, PARAMS) for n in range(PICTURES)]
    told: dict[str, int | None] = {"row_bytes": row_bytes}
    if row_bytes is None:
        watched.most_rows = max(1, int(share))
        served = engine_serves(engine, given, [0.0] * len(given))
    else:
        torch.cuda.empty_cache()
        # Reserved, not allocated: graphs have memory that nobody holds between their replays.
        kept = torch.cuda.memory_reserved()
        room = int(PICTURES * native_px**2 * BYTES_A_PIXEL + share * row_bytes)
        told |= {"kept_bytes": kept, "allocated_bytes": torch.cuda.memory_allocated()}
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


def warm_up(model: Model) -> int | None:
    """Draw such a picture until nothing is made for the first time; return a decoded row's bytes.

    What was made stays: compiled kernels, workspaces, recorded graphs, conditioning.
    """
    engine, native_px = SREngine(model), model.info.native_px
    request = picture_request("warm", native_px, PARAMS)
    for _ in range(2):
        engine.upscale(request.image, PARAMS)
    if not model.info.device.startswith("cuda"):
        return None
    side = native_px // model.info.vae_factor
    latents = torch.zeros(1, model.info.latent_channels, side, side, device=model.info.device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.inference_mode():
        model.decode(latents)
    return torch.cuda.max_memory_allocated() - before


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
    row_bytes = warm_up(model)
    for share in args.shares:
        print(json.dumps(short_of_memory(model, share, row_bytes)), flush=True)


if __name__ == "__main__":
    main()
