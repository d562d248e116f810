"""How many replicas the work needs: a pure function, which simulations call too.

It runs in Serve's controller, many times a second: standard library only.
"""

import math
from dataclasses import dataclass


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
        start_s: from a decision to a replica that works, at the least: of their nodes replicas do
            not know.

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
        lately: any work has come within the last seconds.
        waiting: anyone waits, whether or not the work is known; while replicas run it may be a
            probe, which is no reason to keep one.
        running: replicas that work.
        target: replicas that there are to be; some may still be starting.
        least: replicas that there must be.
        most: replicas that there may be.
        start_s: how long replicas took to start on their nodes; None as long as none has told.
    """

    now_s: float
    outstanding_s: float
    arriving: float
    lately: bool
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
    works = wakes or load.outstanding_s > 0
    floor = max(load.least, int(works))
    need = max(_whole(max(keep_up, catch_up)), floor)

    since_s = load.now_s - settings.shrink_delay_s
    higher = [past for past in memory.needs if past[1] > need and past[0] > since_s]
    needs = (*higher, (load.now_s, need))
    # One that starts has had no chance to be of use.
    awake = works or load.lately or load.running < load.target
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


def longest_start_s(settings: Settings, load: Load) -> float:
    """Seconds from a decision to a replica that works."""
    return max(settings.start_s, load.start_s or 0.0)


def _whole(replicas: float) -> int:
    """Round up; sums of floats have rests, which are not worth a replica."""
    return math.ceil(replicas - 1e-6)


def _catch_up(settings: Settings, load: Load, memory: Memory) -> float:
    """The replicas n by which the wait is back in time.

    When new ones run, the backlog is B; they then take n - arriving off it each second, and after
    `recover_s` it is n × `target_wait_s` at the most.
    """
    start_s = longest_start_s(settings, load)
    if load.running < load.target:
        # Those on their way were asked for a while ago. Counted in full again, what piles up
        # before them would call for still more at each look.
        start_s = min(start_s, max(0.0, memory.grown_s + start_s - load.now_s))
    backlog_s = max(0.0, load.outstanding_s + (load.arriving - load.running) * start_s)
    wanted = backlog_s + load.arriving * settings.recover_s
    return wanted / (settings.target_wait_s + settings.recover_s)
