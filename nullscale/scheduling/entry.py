"""One request as the scheduler knows it: what is left of its plan, and what that weighs."""

from collections import Counter, deque
from dataclasses import dataclass, field

from nullscale.scheduling.work import CostModel, Kind, Plan


@dataclass(slots=True)
class Entry:
    """One request as the scheduler knows it.

    Attributes:
        number: order of arrival.
        priority: each step up halves the work that counts in the order.
        pixels: of its output; what it holds in memory while active is in proportion.
        remaining: rows not yet completed, by kind.
        work_s: seconds of batched work that they are.
        pending: rows of the present stage that no batch holds yet.
    """

    request_id: str
    number: int
    priority: int
    deadline_s: float | None
    pixels: int
    plan: Plan
    remaining: Counter[Kind]
    work_s: float = 0.0
    stage: int = 0
    pending: deque[int] = field(default_factory=deque)
    outstanding: int = 0

    @property
    def kind(self) -> Kind:
        """The kind of the present stage."""
        return self.plan[self.stage].kind

    @property
    def rank(self) -> float:
        """The remaining work, scaled by priority: the lower, the sooner."""
        return self.work_s * 0.5**self.priority

    def weigh(self, costs: CostModel) -> None:
        """Count the remaining work at present costs."""
        self.work_s = sum(rows * costs.row_s(kind) for kind, rows in self.remaining.items())


def rows_of(plan: Plan) -> Counter[Kind]:
    """Return the rows of a plan by kind."""
    rows: Counter[Kind] = Counter()
    for stage in plan:
        rows[stage.kind] += stage.rows
    return rows
