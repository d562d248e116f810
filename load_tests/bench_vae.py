"""The rewritten autoencoder against diffusers' own: time, difference, operations.

    python load_tests/bench_vae.py --threads 1

Decodes and encodes one picture of each size with either, in turns; medians. The difference is the
largest of any value, over the standard deviation of all. The last line printed is a JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nullscale.networks.autoencoder import Autoencoder
from nullscale.networks.loading import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--sides-px", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    model = load_model(args.model, device=args.device, dtype=args.dtype)
    fast = model.autoencoder
    stock = Autoencoder(fast.stock, fast=False)
    sizes: dict[str, object] = {}
    for side in args.sides_px:
        pixels = torch.rand(1, 3, side, side, device=model.device)
        latents = stock.encode(pixels)
        sizes[f"{side}"] = {
            "decode": _compared(stock.decode, fast.decode, latents, args.turns),
            "encode": _compared(stock.encode, fast.encode, pixels, args.turns),
        }
    report = {
        "sizes_px": sizes,
        "device": model.info.device,
        "dtype": model.info.dtype,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(report))


def _compared(
    stock: Callable[[Tensor], Tensor], fast: Callable[[Tensor], Tensor], given: Tensor, turns: int
) -> dict[str, object]:
    expected = stock(given)
    difference = float((fast(given) - expected).abs().max() / expected.std())
    spent_s: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for call, taken_s in zip((stock, fast), spent_s, strict=True):
            started = _now(given)
            call(given)
            taken_s.append(_now(given) - started)
    operations = []
    for call in (stock, fast):
        with FlopCounterMode(display=False) as counter:
            call(given)
        operations.append(counter.get_total_flops())
    return {
        "ratio": round(median(spent_s[0]) / median(spent_s[1]), 3),
        "ms": [round(1000 * median(taken_s), 2) for taken_s in spent_s],
        "least_ms": [round(1000 * min(taken_s), 2) for taken_s in spent_s],
        "operations_ratio": round(operations[0] / operations[1], 3),
        "difference": difference,
    }


def _now(tensor: Tensor) -> float:
    if tensor.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
