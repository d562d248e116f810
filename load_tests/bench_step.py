"""A step of the engine with its fast modules against one of a plain loop with the stock modules.

    python load_tests/bench_step.py --threads 1

Both make the same picture of one tile on the same checkpoint, in turns, with the full autoencoder
at every step (``draft`` off): equal work. The plain loop's modules are as diffusers loads them,
their weights in the layout of the checkpoint. A step is what lies between two evaluations of the
transformer: velocity, decode, Π, encode. Medians over all steps of all turns but the first; the
largest difference between both pictures is before rounding. The last line printed is a JSON object.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

import numpy as np
import torch
from baselines import plain_loop
from skimage import data
from torch import Tensor

from nullscale.networks.loading import load_model
from nullscale.scheduling.work import Phase, Variant
from sr_engine.engine import SREngine
from sr_engine.model import Model, PromptEmbeddings
from sr_engine.request import UpscaleRequest


class TimedModel:
    """A model that notes how long its calls take, and when a step begins.

    Attributes:
        seconds: of every call, by phase.
        steps_s: from one noise level to the next.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.info = model.info
        self.defaults = model.defaults
        self.empty_prompt = model.empty_prompt
        self.clear()

    def clear(self) -> None:
        """Forget what was measured."""
        self.seconds: dict[Phase, list[float]] = defaultdict(list)
        self.steps_s: list[float] = []
        self._level: tuple[float, float] | None = None

    def velocity(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[PromptEmbeddings],
        variant: Variant = Variant.BASE,
    ) -> Tensor:
        """Return the model's; a new noise level begins a step."""
        now, sigma = self._now(), float(sigmas[0])
        if self._level is not None and self._level[0] > sigma:
            self.steps_s.append(now - self._level[1])
        if self._level is None or self._level[0] != sigma:
            self._level = sigma, now
        found = self._model.velocity(latents, sigmas, prompts, variant)
        self.seconds[Phase.DENOISE].append(self._now() - now)
        return found

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        """Return the model's."""
        started = self._now()
        found = self._model.decode(latents, variant)
        self.seconds[Phase.DECODE].append(self._now() - started)
        return found

    def encode(self, pixels: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        """Return the model's."""
        started = self._now()
        found = self._model.encode(pixels, variant)
        self.seconds[Phase.ENCODE].append(self._now() - started)
        return found

    def encode_prompt(self, prompt: str) -> PromptEmbeddings:
        """Return the model's."""
        return self._model.encode_prompt(prompt)

    def release_float32(self) -> None:
        """Do so."""
        self._model.release_float32()

    def _now(self) -> float:
        if self.info.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--input-px", type=int, default=32, help="side of the input, enlarged ×4")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    models = {
        kind: load_model(
            args.model, device=args.device, dtype=args.dtype, autoencoder=kind, transformer=kind
        )
        for kind in ("stock", "fast")
    }
    # `Autoencoder` gives stock modules our layout, as the fallback that they are.
    models["stock"].autoencoder.stock.to(memory_format=torch.contiguous_format)
    stock, fast = (TimedModel(model) for model in models.values())
    engine = SREngine(fast)
    image = np.ascontiguousarray(data.astronaut()[60:, 180:][: args.input_px, : args.input_px])
    params = stock.defaults.override({"seed": 0, "draft": False, "scale": 4})
    difference = 0.0
    for turn in range(args.turns + 1):
        if turn == 1:
            stock.clear()
            fast.clear()
        request = UpscaleRequest(request_id=str(turn), image=image, params=params)
        expected = plain_loop(request, stock).cpu()
        result = engine.upscale(image, params)
        difference = max(difference, float((result.unrounded - expected).abs().max()))
    report: dict[str, object] = {
        "step_ratio": _ratio(stock.steps_s, fast.steps_s),
        "step_ms": _milliseconds(stock.steps_s, fast.steps_s),
        "difference": difference,
    }
    for phase in Phase:
        report[phase.value] = {
            "ratio": _ratio(stock.seconds[phase], fast.seconds[phase]),
            "ms": _milliseconds(stock.seconds[phase], fast.seconds[phase]),
        }
    report |= {
        "output_px": 4 * args.input_px,
        "steps": len(fast.steps_s),
        "device": fast.info.device,
        "dtype": fast.info.dtype,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(report))


def _ratio(stock_s: list[float], fast_s: list[float]) -> float:
    return round(median(stock_s) / median(fast_s), 3)


def _milliseconds(stock_s: list[float], fast_s: list[float]) -> list[float]:
    return [round(1000 * median(seconds), 2) for seconds in (stock_s, fast_s)]


if __name__ == "__main__":
    main()
