"""Loads for autoscalers: when requests arrive, and how large they are."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import simulation as sim

from deployments.workload import work_units
from nullscale.maths.tiling import cover
from nullscale.simulation.devices import Device
from nullscale.simulation.traffic import Arrival

STEPS = 8
SIDES = {1024: 0.8, 2048: 0.17, 4096: 0.03}
"""Sides of the output in pixels, and their shares of the requests."""
TAIL = 1.3
"""Of the Pareto distribution of outputs' areas: their variance has no bound but the largest."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A load; ``busy`` says how many replicas its work keeps busy at a time.

    Attributes:
        changes_s: when the load jumps, if it does.
        lasts_s: for how long it then stays the same.
    """

    name: str
    arrivals: tuple[Arrival, ...]
    busy: Callable[[float], float]
    until_s: float
    changes_s: float | None = None
    lasts_s: float = 0.0


def steady(device: Device, seed: int) -> Trace:
    """Six replicas' work for half an hour."""
    return _trace("steady", device, seed, lambda now_s: 6.0, 1800.0)


def burst(device: Device, seed: int, most: float = 12.0) -> Trace:
    """One twentieth of ``most``, then all of it for ten minutes, then one twentieth again."""

    def busy(now_s: float) -> float:
        return most if 300 <= now_s < 900 else most / 20

    trace = _trace("burst 1 → 20×", device, seed, busy, 1800.0)
    return replace(trace, changes_s=300.0, lasts_s=600.0)


def day(device: Device, seed: int) -> Trace:
    """A day in two hours: from half a replica at night to ten at noon."""

    def busy(now_s: float) -> float:
        return 5.25 - 4.75 * math.cos(2 * math.pi * now_s / 7200)

    return _trace("day", device, seed, busy, 7200.0)


def heavy(device: Device, seed: int) -> Trace:
    """Six replicas' work for an hour, of outputs from half a megapixel to 64, with a heavy tail."""

    def side(rng: random.Random) -> int:
        pixels = min(64e6, 0.5e6 * rng.paretovariate(TAIL))
        return 16 * round(math.sqrt(pixels) / 16)

    return _trace("heavy tail", device, seed, lambda now_s: 6.0, 3600.0, side)


TRACES: Sequence[Callable[[Device, int], Trace]] = (steady, burst, day, heavy)


def usual_side(rng: random.Random) -> int:
    """Draw the side of an output."""
    return rng.choices(list(SIDES), list(SIDES.values()))[0]


def _trace(
    name: str,
    device: Device,
    seed: int,
    busy: Callable[[float], float],
    until_s: float,
    side: Callable[[random.Random], int] = usual_side,
) -> Trace:
    """Draw a Poisson process whose rate follows ``busy``, by thinning.

    What a request counts for at the ingress is what it is there too: its megapixels times steps,
    times the mean cost of such a unit; tiles overlap, so that it is not what the request costs.
    """
    rng = random.Random(seed)
    sizes = [side(rng) for _ in range(4000)]
    mean_s = sum(_cost_s(device, each) for each in sizes) / len(sizes)
    unit_s = mean_s / (sum(work_units(each**2, STEPS) for each in sizes) / len(sizes))
    most = max(busy(now) for now in range(int(until_s)))
    arrivals, now_s = [], 0.0
    while (now_s := now_s + rng.expovariate(most / mean_s)) < until_s:
        if rng.random() < busy(now_s) / most:
            px = side(rng)
            work_s = work_units(px**2, STEPS) * unit_s
            arrivals.append(Arrival(now_s, _plan(px), work_s=work_s, pixels=px**2))
    return Trace(name, tuple(arrivals), busy, until_s)


def _plan(side_px: int) -> sim.Plan:
    cells = max(sim.NATIVE, side_px // 8)
    return sim.tiled(len(cover(cells, cells, sim.NATIVE, sim.NATIVE // 8)), STEPS)


def _cost_s(device: Device, side_px: int) -> float:
    return device.plan_s(_plan(side_px))
