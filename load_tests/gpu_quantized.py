"""A transformer's weights in fewer bits: their bytes, their time, and how far off they are.

    python load_tests/gpu_quantized.py CHECKPOINT --device cuda --dtype bfloat16

One JSON line for each way that `nullscale.networks.quantization` knows; what cannot be loaded says
why. The velocity is that of one row of a native tile. `bench_gpu.py` runs it.
"""

import argparse
import gc
import math
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "load_tests")]

from gpu_floors import Timing, timed  # noqa: E402
from gpu_report import Figures, Report, rounded  # noqa: E402
from torch import Tensor  # noqa: E402

from nullscale.errors import ModelLoadError  # noqa: E402
from nullscale.networks.compiling import compile_networks  # noqa: E402
from nullscale.networks.loading import load_model  # noqa: E402
from nullscale.networks.memory import QUANTIZATIONS, weight_bytes  # noqa: E402
from nullscale.networks.model import SRModel  # noqa: E402

SIGMA = 0.5


def fewer_bits(folder: Path, quantize: str, given: dict[str, Any], exact: Figures) -> Figures:
    """Compare quantised weights with whole ones, whose figures and velocity are ``exact``.

    ``seconds`` are of the eager network; ``compiled_s`` as the service runs it, where the compiler
    knows these weights.
    """
    try:
        model = load_model(str(folder), quantize=quantize, **given)
    except ModelLoadError as err:
        return {"unavailable": str(err)}
    want = exact["velocity"]
    apart = (_velocity(model) - want).square().mean().sqrt() / want.std()
    timing = _timing(model)
    told = {
        "weights_bytes": weight_bytes(model.transformer),
        "exact_weights_bytes": exact["weights_bytes"],
        "seconds": rounded(timing.seconds),
        "exact_s": exact["seconds"],
        "peak_bytes": timing.peak_bytes,
        "relative_difference": rounded(float(apart)),
    }
    if model.device.type == "cuda":
        compiled = compile_networks(model)
        told["compiled_s"] = rounded(_timing(model).seconds) if compiled else None
        torch.compiler.set_stance("default")
        torch._dynamo.reset()
    return told


def whole(folder: Path, given: dict[str, Any]) -> Figures:
    """Return bytes, eager seconds and velocity of the transformer as it is."""
    model = load_model(str(folder), **given)
    return {
        "weights_bytes": weight_bytes(model.transformer),
        "seconds": rounded(_timing(model).seconds),
        "velocity": _velocity(model),
    }


@torch.inference_mode()
def _velocity(model: SRModel) -> Tensor:
    side = model.info.native_px // model.info.vae_factor
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(1, model.info.latent_channels, side, side, generator=generator)
    return model.velocity(
        latents.to(model.device), torch.tensor([SIGMA]), [model.empty_prompt]
    ).clone()


def _timing(model: SRModel) -> Timing:
    return timed(lambda: _velocity(model), str(model.device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    args = parser.parse_args()
    given = {"device": args.device, "dtype": args.dtype}
    exact = whole(args.checkpoint, given)
    # The network and its recordings refer to each other.
    gc.collect()
    # Who runs this process ends it.
    report = Report(math.inf)
    # FP8's library compiles nothing of its own; what fails hard comes last.
    for quantize in reversed(QUANTIZATIONS):
        report.measure(
            "quantized",
            lambda quantize=quantize: fewer_bits(args.checkpoint, quantize, given, exact),
            quantize=quantize,
        )


if __name__ == "__main__":
    main()
