"""What a simulated service is given, what it tells its autoscaler, and what became of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nullscale.scheduling.work import Kind, Plan


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of the load.

    Attributes:
        at_s: when it arrives; virtual clocks start at 0.
        tag: what the caller tells requests apart by.
        work_s: seconds that it counts for at the ingress, before any scheduler knows it.
        pixels: of its output.
        deadline_s: on the same clock; who cannot make it is refused, who has missed it is dropped.
    """

    at_s: float
    plan: Plan
    tag: str = ""
    work_s: float = 0.0
    pixels: int = 0
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request.

    Attributes:
        finished_s: None where it was refused, or dropped at its deadline.
        estimated_s: the service time that its replica foresaw; None where it came to none.
    """

    arrival: Arrival
    finished_s: float | None
    refused: bool = False
    estimated_s: float | None = None

    @property
    def response_s(self) -> float:
        """Seconds from arrival to the end."""
        assert self.finished_s is not None
        return self.finished_s - self.arrival.at_s


def kinds_of(arrivals: Iterable[Arrival]) -> frozenset[Kind]:
    """Return every kind of row that a load asks for."""
    plans = {arrival.plan for arrival in arrivals}
    return frozenset(stage.kind for plan in plans for stage in plan)


@dataclass(frozen=True, slots=True)
class FleetState:
    """What an autoscaler is told.

    Attributes:
        running: replicas that take requests.
        starting: replicas that will.
        draining: replicas that finish what they have.
        outstanding_s: seconds of work, as the ingress counts it, of all that has not ended.
        arrived_s: the same of all that has arrived since the clock began, refused ones too.
        ongoing: requests that replicas hold.
        queued: requests that wait at the ingress.
    """

    now_s: float
    running: int
    starting: int
    draining: int
    outstanding_s: float
    arrived_s: float
    ongoing: int
    queued: int


Autoscaler = Callable[[FleetState], int]
"""Returns how many replicas there should be, starting ones included."""


@dataclass(frozen=True, slots=True)
class Decision:
    """An autoscaler's answer, and what it was told."""

    state: FleetState
    wanted: int


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a load.

    Attributes:
        outcomes: in the order in which they fell.
        replica_s: seconds that replicas were held, from the start of starting to the end of
            draining.
        busy_s: seconds of batches among those.
        ended_s: when the last request had ended, or as long as was asked for.
    """

    outcomes: tuple[Outcome, ...]
    decisions: tuple[Decision, ...]
    replica_s: float
    busy_s: float
    ended_s: float
