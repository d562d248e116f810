"""A request from its arrival to its end."""

from dataclasses import dataclass, replace

from sr_engine.active import ActiveRequest
from sr_engine.model import ModelInfo
from sr_engine.plan import plan_stages
from sr_engine.request import UpscaleRequest
from sr_engine.work import Plan, Variant


@dataclass(slots=True)
class Job:
    """A request, what it will ask of which networks, and its state once it holds memory.

    Attributes:
        estimated_s: seconds from its arrival to its end, as foreseen then.
    """

    request: UpscaleRequest
    plan: Plan
    arrived_s: float
    estimated_s: float
    variant: Variant = Variant.BASE
    active: ActiveRequest | None = None

    def in_float32(self, info: ModelInfo) -> "Job":
        """Return the same job from the start, with the seed it had, for the float32 networks."""
        request = self.request
        if self.active is not None:
            request = replace(request, params=replace(request.params, seed=self.active.seed))
        plan = plan_stages(request, info, Variant.FLOAT32)
        return Job(request, plan, self.arrived_s, self.estimated_s, Variant.FLOAT32)
