"""What a device can do at best, measured, and what the networks therefore take at least.

A floor is the larger of floating-point operations over the measured matrix rate and bytes that must
be read over the measured bandwidth. Operations are counted by torch on the meta device, of the
stock modules; a rewritten module that needs fewer is compared with the same floor.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from gpu_models import Bench
from torch.utils.flop_counter import FlopCounterMode

from nullscale.networks.memory import memory_estimate
from nullscale.scheduling.work import Kind, Phase, Plan

WARM_UP = 2
MOST = 20


@dataclass(frozen=True, slots=True)
class Timing:
    """Median seconds of a call, and the most memory that it took beyond what was there before.

    ``peak_bytes`` is None where nobody counts (on a CPU).
    """

    seconds: float
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class Limits:
    """A device's measured rates."""

    bytes_s: float
    flop_s: float


def timed(call: Callable[[], object], device: str) -> Timing:
    """Call it a few times to warm up, then at least three times, and for a second at most."""
    cuda = device.startswith("cuda")
    budget_s = 1.0 if cuda else 0.05
    for _ in range(WARM_UP):
        call()
    before = 0
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < budget_s and len(taken) < MOST):
        taken.append(_once(call, cuda))
    peak = torch.cuda.max_memory_allocated() - before if cuda else None
    return Timing(statistics.median(taken), peak)


def measure_limits(
    device: str, dtype: torch.dtype, *, side: int = 8192, megabytes: int = 4096
) -> Limits:
    """Copy a large tensor, counting bytes read and written, and multiply two large matrices.

    Random numbers, not zeros: on those a GPU is faster than on any picture.
    """
    bytes_s = _copied(megabytes * 10**6, device)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product_s = timed(lambda: left @ right, device).seconds
    return Limits(bytes_s, 2 * side**3 / product_s)


class Floors:
    """Least seconds of a model's phases on a device."""

    def __init__(self, bench: Bench, limits: Limits, dtype: torch.dtype) -> None:
        self._limits = limits
        self._tokens = bench.tokens
        self._itemsize = dtype.itemsize
        self._transformer, self._vae = bench.architecture.on_meta(dtype)
        self._flops: dict[tuple[Phase, int, int], int] = {}
        self._weights: Mapping[Phase, int] = {
            Phase.DENOISE: memory_estimate(self._transformer, dtype=dtype),
            Phase.DECODE: memory_estimate(self._vae.decoder, dtype=dtype),
            Phase.ENCODE: memory_estimate(self._vae.encoder, dtype=dtype),
        }

    def flops(self, phase: Phase, height: int, width: int) -> int:
        """Operations of one row, sides in latent cells."""
        key = phase, height, width
        if key not in self._flops:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                self._call(phase, height, width)
            self._flops[key] = counter.get_total_flops()
        return self._flops[key]

    def seconds(self, kind: Kind, rows: int = 1) -> float:
        """The floor of a batch."""
        flops = rows * self.flops(kind.phase, kind.height, kind.width)
        weights = self._weights[kind.phase]
        return max(flops / self._limits.flop_s, weights / self._limits.bytes_s)

    def plan_s(self, plan: Plan) -> float:
        """The floor of all that a request asks of the networks, its rows one by one."""
        return sum(stage.rows * self.seconds(stage.kind) for stage in plan)

    def _call(self, phase: Phase, height: int, width: int) -> object:
        transformer, vae, config = self._transformer, self._vae, self._transformer.config
        empty: dict[str, Any] = {"device": "meta", "dtype": next(vae.parameters()).dtype}
        latents = torch.empty(1, config.in_channels, height, width, **empty)
        if phase is Phase.DENOISE:
            context = torch.empty(1, self._tokens, config.joint_attention_dim, **empty)
            pooled = torch.empty(1, config.pooled_projection_dim, **empty)
            return transformer(latents, context, pooled, torch.empty(1, device="meta"))
        if phase is Phase.DECODE:
            return vae.decode(latents)
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        return vae.encode(torch.empty(1, 3, factor * height, factor * width, **empty))


def _copied(size: int, device: str) -> float:
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / timed(lambda: target.copy_(source), device).seconds


def _once(call: Callable[[], object], cuda: bool) -> float:
    if not cuda:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize()
    seconds: float = begin.elapsed_time(end) / 1000
    return seconds
