"""Whole pictures: one alone, and a mixed load."""

import math
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from baselines import plain_loop, request_batch
from gpu_floors import Floors
from gpu_report import Figures, rounded
from gpu_watched import Watched

from nullscale.maths.operators import BicubicDownscale
from nullscale.maths.params import UpscaleParams
from nullscale.maths.rounding import round_consistently
from sr_engine.engine import SREngine
from sr_engine.events import RequestFailure, UpscaleResult
from sr_engine.model import Model
from sr_engine.plan import plan_stages
from sr_engine.request import UpscaleRequest

SCALE = 4
# Output sides over the native one, and steps: 32 pictures, most of them small.
MIX = (
    *((1 / 4, steps) for steps in (4, 8, 16, 28, 4, 8, 16, 28, 8, 28)),
    *((1 / 2, steps) for steps in (4, 8, 16, 28, 4, 8, 16, 28, 8, 8, 16, 4)),
    *((1, steps) for steps in (4, 4, 4, 8, 8, 8, 16, 16, 28)),
    (2, 4),
)
LOAD = 0.8
GROUP = 4  # requests of a whole-request batch at most: the autoencoder's limit of rows
WARM_UP, REPEATS = 1, 2
CHEAPER = {
    "draft": {"draft": True},
    "draft, every other step projected": {"draft": True, "projection_every": 2},
}
"""Parameters that make a picture cost less; `docs/quality.md` has what they cost in quality."""


@dataclass(frozen=True, slots=True)
class Served:
    """What became of a load: seconds from arrival to picture, and the server's own time."""

    latencies_s: list[float]
    busy_s: float
    wall_s: float


Serve = Callable[[Sequence[UpscaleRequest], Sequence[float]], Served]
"""Takes requests and the seconds at which they arrive."""


def one_picture(
    stock: Model, ours: Model, floors: Floors, *, steps: int = 8, projection: Any = "pixel"
) -> Figures:
    """Compare the naive loop on stock modules with our engine, in turns, on one native picture."""
    params = UpscaleParams(num_inference_steps=steps, projection=projection, seed=1)
    request = picture_request("one", ours.info.native_px, params)
    engine = SREngine(ours)
    naive_s: list[float] = []
    ours_s: list[tuple[float, float]] = []  # of the whole, and inside the networks
    for _ in range(WARM_UP + REPEATS):
        started = time.perf_counter()
        plain = plain_loop(request, stock)
        _finish(request, plain)
        naive_s.append(time.perf_counter() - started)
        mine, wall_s, inside_s = _timed(engine, request)
        ours_s.append((wall_s, inside_s))
    least_naive_s, (least_ours_s, networks_s) = min(naive_s[WARM_UP:]), min(ours_s[WARM_UP:])
    floor_s = floors.plan_s(plan_stages(request, ours.info))
    apart = float(((plain.cpu() - mine) ** 2).mean())
    return {
        "steps": steps,
        "projection": projection,
        "naive_s": rounded(least_naive_s),
        "ours_s": rounded(least_ours_s),
        "ours_networks_s": rounded(networks_s),
        "floor_s": rounded(floor_s),
        "speedup": rounded(least_naive_s / least_ours_s),
        "over_floor": rounded(least_ours_s / floor_s),
        "psnr_db": rounded(-10 * math.log10(max(apart, 1e-20))),
    }


def cheaper(ours: Model, naive_s: float, changed: Mapping[str, Any], *, steps: int = 8) -> Figures:
    """Compare the same picture made with parameters that cost less with the naive loop's time."""
    params = UpscaleParams(num_inference_steps=steps, projection="pixel", seed=1)
    request = picture_request("cheaper", ours.info.native_px, params.override(changed))
    engine = SREngine(ours)
    taken = [_timed(engine, request)[1:] for _ in range(WARM_UP + REPEATS)]
    ours_s, networks_s = min(taken[WARM_UP:])
    return {
        "steps": steps,
        "ours_s": rounded(ours_s),
        "ours_networks_s": rounded(networks_s),
        "speedup": rounded(naive_s / ours_s),
    }


def _timed(engine: SREngine, request: UpscaleRequest) -> tuple[torch.Tensor, float, float]:
    """Return the picture, the seconds it took, and those inside the networks."""
    before_s, started = sum(engine.runner.seconds.values()), time.perf_counter()
    picture = engine.upscale(request.image, request.params).unrounded
    wall_s = time.perf_counter() - started
    return picture, wall_s, sum(engine.runner.seconds.values()) - before_s


def requests(native_px: int, count: int = len(MIX), *, seed: int = 5) -> list[UpscaleRequest]:
    """Return the mixed load's requests, in the order of their arrivals."""
    mix = list(MIX)
    random.Random(seed).shuffle(mix)
    made = []
    for number, (share, steps) in enumerate(mix[:count]):
        params = UpscaleParams(num_inference_steps=steps, seed=number)
        made.append(picture_request(str(number), int(share * native_px), params))
    return made


def saturated(watched: Watched, engine: SREngine, given: Sequence[UpscaleRequest]) -> Figures:
    """Give our engine everything at once: its capacity in this mix.

    The same load before, unmeasured, pays for what comes once, and lets the caps grow.
    """
    at_once = [0.0] * len(given)
    engine_serves(engine, given, at_once)
    watched.forget()
    return _told(engine_serves(engine, given, at_once), watched)


def mixed(
    given: Sequence[UpscaleRequest], capacity: float, serve: Serve, watched: Watched
) -> Figures:
    """Serve Poisson arrivals at 0.8 of ``capacity``, in requests a second."""
    rng, at_s, arrivals = random.Random(6), 0.0, []
    for _ in given:
        at_s += rng.expovariate(LOAD * capacity)
        arrivals.append(at_s)
    watched.forget()
    return _told(serve(given, arrivals), watched)


def ways(model: Model, watched: Watched, engine: SREngine) -> dict[str, tuple[Serve, Watched]]:
    """Return three ways of serving on the same networks, the first on a warm engine."""
    plain = Watched(model)
    return {
        "ours": (partial(engine_serves, engine), watched),
        "one at a time": (partial(_groups_serve, plain, 1), plain),
        "whole requests": (partial(_groups_serve, plain, GROUP), plain),
    }


def engine_serves(
    engine: SREngine, given: Sequence[UpscaleRequest], arrivals: Sequence[float]
) -> Served:
    """Give an engine requests at the seconds of their arrival; print what failed."""
    waiting = deque(zip(arrivals, given, strict=True))
    at_s = dict(zip((request.request_id for request in given), arrivals, strict=True))
    latencies, idle_s, started = [], 0.0, time.perf_counter()
    while waiting or engine.has_work():
        now_s = time.perf_counter() - started
        while waiting and waiting[0][0] <= now_s:
            engine.add_request(waiting.popleft()[1])
        if not engine.has_work():
            idle_s += (pause_s := waiting[0][0] - now_s)
            time.sleep(pause_s)
            continue
        for event in engine.step():
            if isinstance(event, UpscaleResult):
                latencies.append(time.perf_counter() - started - at_s[event.request_id])
            elif isinstance(event, RequestFailure):
                print(f"# {event.request_id}: {event.error}", flush=True)
    wall_s = time.perf_counter() - started
    return Served(latencies, wall_s - idle_s, wall_s)


def picture_request(name: str, side_px: int, params: UpscaleParams) -> UpscaleRequest:
    """Return a request for a square picture of such a side, made of waves and grain."""
    small = side_px // SCALE
    ramp = np.linspace(0, 6.3, small)
    waves = np.sin(ramp)[:, None, None] * np.cos(ramp)[None, :, None] * np.ones(3)
    grain = np.random.default_rng(3).random((small, small, 3))
    image = (128 + 90 * waves + 24 * (grain - 0.5)).astype(np.uint8)
    return UpscaleRequest(request_id=name, image=image, params=params)


def _groups_serve(
    model: Watched, most: int, given: Sequence[UpscaleRequest], arrivals: Sequence[float]
) -> Served:
    """Serve the oldest, together with those that wait for the very same; next when it is done."""
    waiting = deque(zip(arrivals, given, strict=True))
    latencies, idle_s, started = [], 0.0, time.perf_counter()
    while waiting:
        now_s = time.perf_counter() - started
        if waiting[0][0] > now_s:
            idle_s += waiting[0][0] - now_s
            time.sleep(waiting[0][0] - now_s)
            continue
        like = _like(waiting[0][1])
        group = [one for one in waiting if one[0] <= now_s and _like(one[1]) == like][:most]
        pictures = request_batch([request for _, request in group], model)
        for (at_s, request), picture in zip(group, pictures, strict=True):
            _finish(request, picture)
            latencies.append(time.perf_counter() - started - at_s)
        served = {request.request_id for _, request in group}
        waiting = deque(one for one in waiting if one[1].request_id not in served)
    wall_s = time.perf_counter() - started
    return Served(latencies, wall_s - idle_s, wall_s)


def _like(request: UpscaleRequest) -> tuple[object, ...]:
    return request.image.shape, request.params.num_inference_steps


def _told(served: Served, watched: Watched) -> Figures:
    p50, p95 = np.percentile(served.latencies_s, [50, 95]) if served.latencies_s else (0, 0)
    finished = len(served.latencies_s)
    return {
        "finished": finished,
        "requests_a_s": rounded(finished / served.wall_s),
        "p50_s": rounded(float(p50)),
        "p95_s": rounded(float(p95)),
        "wall_s": rounded(served.wall_s),
        "efficiency": rounded(watched.seconds() / served.busy_s),
        **watched.batches(),
    }


def _finish(request: UpscaleRequest, picture: torch.Tensor) -> object:
    y = torch.from_numpy(request.image.copy()).permute(2, 0, 1)
    operator = BicubicDownscale(request.image.shape[:2], request.params.scale)
    return round_consistently(picture, y, operator).image.cpu()
