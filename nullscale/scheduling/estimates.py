"""How long a request takes, alone and under the present load."""

from collections import Counter
from collections.abc import Collection

from nullscale.errors import DeadlineExceeded, EngineOverloaded
from nullscale.scheduling.entry import Entry
from nullscale.scheduling.work import CostModel, Kind, Plan, Stage

OLDEST_EVERY = 4
"""Every batch of this number is led by the oldest request instead of the least work."""


def service_s(plan: Plan, costs: CostModel) -> float:
    """Return the seconds that a request takes alone."""
    return sum(count * _stage_s(stage, costs) for stage, count in Counter(plan).items())


def completion_s(
    new: Entry,
    active: Collection[Entry],
    waiting: Collection[Entry],
    max_active: int,
    costs: CostModel,
) -> float:
    """Return the seconds from now to the end of a new request.

    Ahead of it is everything of no more work than its own, and whoever must end before there is a
    place for it; of what has more, every fourth batch and the one under way.
    """
    by_rank = sorted(active, key=lambda entry: entry.rank)
    shorter = sum(entry.rank <= new.rank for entry in by_rank)
    enders = max(shorter, 1 - (max_active - len(by_rank)))
    ahead = [*by_rank[:enders], *(entry for entry in waiting if entry.rank <= new.rank)]
    behind = [*by_rank[enders:], *(entry for entry in waiting if entry.rank > new.rank)]
    ahead_s = service_s(new.plan, costs) + sum(entry.work_s for entry in ahead)
    behind_s = sum(entry.work_s for entry in behind)
    under_way_s = max((_full_s(e.kind, costs) for e in behind if e.pending), default=0.0)
    return ahead_s + min(behind_s, ahead_s / (OLDEST_EVERY - 1) + under_way_s)


def check_deadline(left_s: float, needs_s: float, alone_s: float) -> None:
    """Do nothing where the time that is left suffices.

    Raises:
        DeadlineExceeded: it would not even alone.
        EngineOverloaded: it would not under the present load.
    """
    if alone_s > left_s:
        raise DeadlineExceeded(f"it would take {alone_s:.1f} s")
    if needs_s > left_s:
        raise EngineOverloaded(needs_s - left_s)


def queue_of(
    active: Collection[Entry], waiting: Collection[Entry], max_active: int
) -> list[tuple[str, float]]:
    """Return those that wait, least work first, each with the seconds until its end."""
    by_rank = sorted(active, key=lambda entry: entry.rank, reverse=True)
    ahead_s, found, ended = 0.0, [], 0
    for entry in sorted(waiting, key=lambda entry: (entry.rank, entry.number)):
        # Ahead are the active of no more work, and whoever must end before there is a place.
        while by_rank and (by_rank[-1].rank <= entry.rank or ended <= len(active) - max_active):
            ahead_s += by_rank.pop().work_s
            ended += 1
        ahead_s += entry.work_s
        found.append((entry.request_id, ahead_s))
    return found


def _full_s(kind: Kind, costs: CostModel) -> float:
    return costs.batch_s(kind, costs.cap(kind))


def _stage_s(stage: Stage, costs: CostModel) -> float:
    full, rest = divmod(stage.rows, costs.cap(stage.kind))
    seconds = full * _full_s(stage.kind, costs)
    return seconds + (costs.batch_s(stage.kind, rest) if rest else 0.0)
