"""How many replicas the work needs: an application-level autoscaling policy for Serve.

`ByWork` is named in the YAML. It runs in Serve's controller, many times a second, and the dashboard
and the command `serve` import it as well: standard library only. What it decides is `decide`, a
pure function, which simulations call too.
"""

import logging
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from deployments.workload import WINDOWS_S, Rate, beyond_chance, told_as

UPSCALER = "Upscaler"

# The controller's own logger: its handlers, its level, its encoding.
logger = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the policy aims at.

    Attributes:
        target_wait_s: the wait that is to be kept: outstanding work over replicas.
        recover_s: from the moment in which new replicas run, so long until it is kept again.
        utilisation: share of the replicas' time that arriving work takes after a change, above 0
            to 1. It may take more as long as the wait is kept, so that chance changes nothing.
        shrink_delay_s: replicas that were needed within this time stay.
        sleep_delay_s: with `min_replicas: 0`, the last one stays so long after the last work.
        start_s: from a decision to a replica that works, until replicas have said how long theirs
            took.

    Raises:
        ValueError: one of them is out of range.
    """

    target_wait_s: float
    recover_s: float
    utilisation: float
    shrink_delay_s: float
    sleep_delay_s: float
    start_s: float

    def __post_init__(self) -> None:
        for name in ("target_wait_s", "recover_s", "shrink_delay_s", "sleep_delay_s", "start_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0")
        if not 0 < self.utilisation <= 1:
            raise ValueError("utilisation must be above 0, and 1 at the most")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The state of the service.

    Attributes:
        outstanding_s: engine seconds of all that has come and has not been answered.
        arriving: engine seconds that arrive a second: replicas that they keep busy.
        waiting: anyone waits, whether or not the work is known; while replicas run it may be a
            probe, which is no reason to keep one.
        running: replicas that work.
        target: replicas that there are to be; some may still be starting.
        least: replicas that there must be.
        most: replicas that there may be.
        start_s: how long replicas took to start; None as long as none has told.
    """

    now_s: float
    outstanding_s: float
    arriving: float
    waiting: bool
    running: int
    target: int
    least: int
    most: int
    start_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a decision leaves to the next.

    Attributes:
        needs: times and needs within the last `shrink_delay_s`; each need below those before it,
            at the last time that it was so high.
        grown_s: when the target was last raised.
        worked_s: when there was last anything to do, or a replica on its way.
    """

    needs: tuple[tuple[float, int], ...]
    grown_s: float
    worked_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Replicas that there are to be, and why.

    Attributes:
        keep_up: replicas that arriving work keeps as busy as it should.
        catch_up: replicas without which the wait would not be back in time.
    """

    replicas: int
    keep_up: float
    catch_up: float
    memory: Memory


def decide(settings: Settings, load: Load, memory: Memory | None) -> Decision:
    """Say how many replicas there are to be; ``memory`` is the last decision's, None at first."""
    if memory is None:
        # Nobody knows what the present ones are for: they stay as if they were needed now.
        first = (load.now_s, load.target)
        memory = Memory(needs=(first,), grown_s=-math.inf, worked_s=load.now_s)
    keep_up = load.arriving / settings.utilisation
    catch_up = _catch_up(settings, load, memory)
    wakes = load.waiting and not load.running
    works = wakes or load.outstanding_s > 0 or load.arriving > 0
    floor = max(load.least, int(works))
    need = max(_whole(max(keep_up, catch_up)), floor)

    since_s = load.now_s - settings.shrink_delay_s
    higher = [past for past in memory.needs if past[1] > need and past[0] > since_s]
    needs = (*higher, (load.now_s, need))
    # One that starts has had no chance to be of use.
    awake = works or load.running < load.target
    worked_s = load.now_s if awake else memory.worked_s
    if _whole(catch_up) > load.target or floor > load.target:
        replicas = need
    else:
        # Busier than they should be, but the wait is kept: no reason to grow.
        replicas = min(load.target, needs[0][1])
    if not replicas and load.target and load.now_s - worked_s < settings.sleep_delay_s:
        replicas = 1
    replicas = min(load.most, max(load.least, replicas))
    grown_s = load.now_s if replicas > load.target else memory.grown_s
    return Decision(
        replicas=replicas,
        keep_up=keep_up,
        catch_up=catch_up,
        memory=Memory(needs=needs, grown_s=grown_s, worked_s=worked_s),
    )


def _whole(replicas: float) -> int:
    """Round up; sums of floats have rests, which are not worth a replica."""
    return math.ceil(replicas - 1e-6)


def _catch_up(settings: Settings, load: Load, memory: Memory) -> float:
    """The replicas n by which the wait is back in time.

    When new ones run, the backlog is B; they then take n - arriving off it each second, and after
    `recover_s` it is n × `target_wait_s` at the most.
    """
    start_s = settings.start_s if load.start_s is None else load.start_s
    if load.running < load.target:
        # Those on their way were asked for a while ago. Counted in full again, what piles up
        # before them would call for still more at each look.
        start_s = min(start_s, max(0.0, memory.grown_s + start_s - load.now_s))
    backlog_s = max(0.0, load.outstanding_s + (load.arriving - load.running) * start_s)
    wanted = backlog_s + load.arriving * settings.recover_s
    return wanted / (settings.target_wait_s + settings.recover_s)


class Sample(Protocol):
    """One value of a replica's series."""

    value: float


class Config(Protocol):
    """The part of Serve's `AutoscalingConfig` that is read here."""

    def get_target_ongoing_requests(self) -> float:
        """`target_ongoing_requests`."""


class Context(Protocol):
    """The part of Serve's `AutoscalingContext` that is used here."""

    deployment_name: str
    current_num_replicas: int
    target_num_replicas: int
    capacity_adjusted_min_replicas: int
    capacity_adjusted_max_replicas: int
    current_time: float
    total_num_requests: float
    raw_metrics: Mapping[str, Mapping[Hashable, Sequence[Sample]]]
    config: Config


class ByWork:
    """The policy: the upscaler's replicas by work, other deployments' by requests, as Serve does.

    The defaults of its arguments are those of `serve_config.yaml`, where they are explained.
    """

    def __init__(
        self,
        *,
        target_wait_s: float = 10.0,
        recover_s: float = 20.0,
        utilisation: float = 0.8,
        shrink_delay_s: float = 120.0,
        sleep_delay_s: float = 900.0,
        start_s: float = 60.0,
    ) -> None:
        self.settings = Settings(
            target_wait_s=target_wait_s,
            recover_s=recover_s,
            utilisation=utilisation,
            shrink_delay_s=shrink_delay_s,
            sleep_delay_s=sleep_delay_s,
            start_s=start_s,
        )
        self._memory: Memory | None = None
        self._start_s: float | None = None

    def __call__(
        self, contexts: Mapping[Hashable, Context]
    ) -> tuple[dict[Hashable, float], dict[Hashable, dict[str, object]]]:
        """Return the replicas of each deployment whose number may change, and no state."""
        replicas: dict[Hashable, float] = {}
        for deployment, context in contexts.items():
            if context.deployment_name == UPSCALER:
                replicas[deployment] = self._upscalers(context, list(contexts.values()))
            elif context.capacity_adjusted_min_replicas < context.capacity_adjusted_max_replicas:
                each = context.config.get_target_ongoing_requests()
                replicas[deployment] = context.total_num_requests / each
        return replicas, {}

    def _upscalers(self, upscaler: Context, contexts: Sequence[Context]) -> int:
        load = load_of(upscaler, contexts)
        if load.start_s is None:
            # None runs; the last that did has told.
            load = replace(load, start_s=self._start_s)
        self._start_s = load.start_s
        decision = decide(self.settings, load, self._memory)
        self._memory = decision.memory
        if decision.replicas != load.target:
            logger.info(
                "autoscaling %s from %d to %d: %.1f s of work is out and %.2f s come a second, "
                "%d run, a start takes %.0f s; %.1f keep up, %.1f catch up",
                *(upscaler.deployment_name, load.target, decision.replicas),
                *(load.outstanding_s, load.arriving, load.running),
                self.settings.start_s if load.start_s is None else load.start_s,
                *(decision.keep_up, decision.catch_up),
            )
        if decision.replicas and not upscaler.current_num_replicas:
            # As long as none runs, Serve itself would start one for any request, and ask no policy.
            upscaler.total_num_requests = 0.0
        return decision.replicas


def load_of(upscaler: Context, contexts: Iterable[Context]) -> Load:
    """Sum up what the replicas of all deployments have last told (`record_autoscaling_stats`)."""
    told = list(contexts)
    return Load(
        now_s=upscaler.current_time,
        outstanding_s=_sum(told, "outstanding_work_s"),
        arriving=beyond_chance(
            Rate(*[_sum(told, name) for name in told_as(window_s)]) for window_s in WINDOWS_S
        ),
        waiting=upscaler.total_num_requests > 0,
        running=upscaler.current_num_replicas,
        target=upscaler.target_num_replicas,
        least=upscaler.capacity_adjusted_min_replicas,
        most=upscaler.capacity_adjusted_max_replicas,
        start_s=max(_last(upscaler, "start_s"), default=None),
    )


def _sum(contexts: Iterable[Context], name: str) -> float:
    return sum(value for each in contexts for value in _last(each, name))


def _last(context: Context, name: str) -> list[float]:
    series = (context.raw_metrics or {}).get(name, {})
    return [samples[-1].value for samples in series.values() if samples]
