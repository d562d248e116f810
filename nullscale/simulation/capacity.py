"""How many GPUs a load needs: the whole service on a virtual clock, over thousands of requests."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from nullscale.errors import InvalidParameter
from nullscale.maths.params import UpscaleParams
from nullscale.simulation.devices import Device
from nullscale.simulation.fleet import Fleet, run_fleet
from nullscale.simulation.simulated import describe
from nullscale.simulation.traffic import Arrival, Report, kinds_of
from nullscale.simulation.virtual_replica import ReplicaSettings
from sr_engine.plan import canvas_of, plan_stages
from sr_engine.request import UpscaleRequest

MAX_SIDE_PX = 16_384
WARM_SHARE = 0.1
"""Of the requests come before those that count, so that the queue is as long as it gets."""
FULL_REQUESTS = 100
"""Are queued at once to learn what a GPU does when it is never idle."""


@dataclass(frozen=True, slots=True)
class Size:
    """Pictures of one size: sides of the input in pixels, scale, and their weight in the mix."""

    height: int
    width: int
    scale: float
    weight: float


@dataclass(frozen=True, slots=True)
class Service:
    """How replicas are set, and what a request passes through besides.

    Attributes:
        added_s: seconds of HTTP, coding and the hop, which wait for no GPU.
    """

    device: Device
    max_active: int = 8
    max_ongoing: int = 16
    added_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What so many GPUs make of a load.

    Attributes:
        utilisation: share of the time that a GPU computes, were nobody ever turned away: above 1,
            the queue grows for as long as the load lasts.
        full_per_hour: pictures an hour of GPUs that are never idle.
        p50_s: and `p95_s`, `p99_s`: response times; None where the queue grows.
    """

    gpus: int
    utilisation: float
    full_per_hour: float
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None

    def meets(self, target_p95_s: float) -> bool:
        """Say whether its 95th percentile is no longer than that."""
        return self.p95_s is not None and self.p95_s <= target_p95_s


def parse_mix(text: str) -> tuple[Size, ...]:
    """Read ``512x512:4:70,1024x1024:2:30``: height x width of the input, scale, weight.

    Raises:
        InvalidParameter: it is no such list.
    """
    mix = tuple(_size(part) for part in text.split(","))
    if not math.isfinite(sum(size.weight for size in mix)):
        raise InvalidParameter("mix", "the weights are too large to be added")
    return mix


def parse_counts(text: str) -> tuple[int, ...]:
    """Read numbers and ranges of them, ``1,2,4-8``, in ascending order.

    Raises:
        InvalidParameter: it is no such list, or one of them is not from 1 to 1000.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            numbers = range(int(first), int(last if dash else first) + 1)
        except ValueError as err:
            raise InvalidParameter("gpus", f"{part!r} is no number and no range as 1-8") from err
        if not numbers or numbers[0] < 1 or numbers[-1] > 1000:
            raise InvalidParameter("gpus", f"{part!r} is no count from 1 to 1000")
        found.update(numbers)
    return tuple(sorted(found))


def load_of(
    mix: Sequence[Size],
    params: UpscaleParams,
    device: Device,
    *,
    per_hour: float,
    requests: int,
    seed: int = 0,
) -> list[Arrival]:
    """Draw Poisson arrivals; a size's tag is its number in the mix."""
    kinds = [_arrival(number, size, params, device) for number, size in enumerate(mix)]
    rng, now_s, arrivals = Random(seed), 0.0, []
    for _ in range(requests):
        now_s += rng.expovariate(per_hour / 3600)
        (kind,) = rng.choices(kinds, [size.weight for size in mix])
        arrivals.append(Arrival(now_s, kind.plan, kind.tag, kind.work_s, kind.pixels))
    return arrivals


def predict(
    load: Sequence[Arrival], counts: Iterable[int], service: Service, *, seed: int = 0
) -> Iterator[Prediction]:
    """Run a load through services of so many GPUs each; its first requests only fill the queue.

    The load's own rate is taken, from its first arrival to its last.
    """
    busy_s = busy_s_each(load, service)
    rate = (len(load) - 1) / (load[-1].at_s - load[0].at_s)
    for gpus in counts:
        utilisation, full_per_hour = busy_s * rate / gpus, 3600 * gpus / busy_s
        if utilisation >= 1:
            yield Prediction(gpus, utilisation, full_per_hour)
            continue
        p50_s, p95_s, p99_s = _quantiles(load, gpus, service, seed)
        yield Prediction(gpus, utilisation, full_per_hour, p50_s, p95_s, p99_s)


def busy_s_each(load: Sequence[Arrival], service: Service) -> float:
    """Return the seconds of a GPU that a picture takes, batches full: all wait from the start."""
    queued = [Arrival(0.0, a.plan, a.tag, a.work_s, a.pixels) for a in load[:FULL_REQUESTS]]
    full_s = _run(queued, 1, service, len(queued), 0).busy_s / sum(a.work_s for a in queued)
    # What these few gain by batching holds for all; their sizes are not everyone's.
    return full_s * sum(arrival.work_s for arrival in load) / len(load)


def _quantiles(
    load: Sequence[Arrival], gpus: int, service: Service, seed: int
) -> tuple[float, float, float]:
    report = _run(load, gpus, service, service.max_ongoing, seed)
    counted_from_s = load[int(WARM_SHARE * len(load))].at_s
    responses = [
        outcome.response_s + service.added_s
        for outcome in report.outcomes
        if outcome.arrival.at_s >= counted_from_s
    ]
    p50_s, p95_s, p99_s = (float(q) for q in np.percentile(responses, [50, 95, 99]))
    return p50_s, p95_s, p99_s


def _run(
    load: Sequence[Arrival], gpus: int, service: Service, max_ongoing: int, seed: int
) -> Report:
    replica = ReplicaSettings(service.device, max_active=service.max_active, known=kinds_of(load))
    return run_fleet(load, Fleet(replica, replicas=gpus, max_ongoing=max_ongoing, seed=seed))


def _arrival(number: int, size: Size, params: UpscaleParams, device: Device) -> Arrival:
    # A flat picture needs no network.
    image = np.zeros((size.height, size.width, 3), np.uint8)
    image[0, 0] = 255
    request = UpscaleRequest(
        request_id="", image=image, params=params.override({"scale": size.scale})
    )
    info = describe("", device)
    plan = plan_stages(request, info)
    pixels = math.prod(canvas_of(request, info).image_size)
    return Arrival(0.0, plan, str(number), device.plan_s(plan), pixels)


def _size(text: str) -> Size:
    try:
        sides, scale, weight = text.split(":")
        height, width = sides.split("x")
        size = Size(int(height), int(width), float(scale), float(weight))
    except ValueError as err:
        raise InvalidParameter("mix", f"{text!r} is not HEIGHTxWIDTH:SCALE:WEIGHT") from err
    if not (0 < size.height <= MAX_SIDE_PX and 0 < size.width <= MAX_SIDE_PX):
        raise InvalidParameter("mix", f"{text!r}: sides are from 1 to {MAX_SIDE_PX} px")
    if not 0 < size.weight < math.inf:
        raise InvalidParameter("mix", f"{text!r}: weights are above 0")
    if size.height == size.width == 1:
        raise InvalidParameter("mix", f"{text!r}: a picture of one pixel takes no GPU")
    try:
        UpscaleParams(scale=size.scale)
    except InvalidParameter as err:
        raise InvalidParameter("mix", f"{text!r}: the scale {err.message}") from err
    return size
