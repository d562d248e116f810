"""Our autoscaling policy and Serve's own, as a simulated fleet asks them."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from ray.serve import autoscaling_policy as serve_policy
from ray.serve._private.common import DeploymentID
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from deployments.sizing import Load, Memory, Settings, decide
from deployments.workload import Arrivals, present_rate
from nullscale.simulation.traffic import Arrival, FleetState

UPSCALER = DeploymentID("Upscaler", "nullscale")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Replicas that there may be."""

    least: int = 1
    most: int = 32


class ByWork:
    """`deployments.autoscaling`, told what the ingress would tell it."""

    def __init__(self, settings: Settings, bounds: Bounds, arrivals: Sequence[Arrival]) -> None:
        self._settings, self._bounds = settings, bounds
        self._todo = deque(arrivals)
        self._now_s = 0.0
        self._arrivals = Arrivals(lambda: self._now_s)
        self._memory: Memory | None = None

    def __call__(self, state: FleetState) -> int:
        """Return how many replicas there should be."""
        while self._todo and self._todo[0].at_s <= state.now_s:
            self._now_s = self._todo[0].at_s
            self._arrivals.add(self._todo.popleft().work_s)
        self._now_s = state.now_s
        windows = self._arrivals.windows()
        load = Load(
            now_s=state.now_s,
            outstanding_s=state.outstanding_s,
            arriving=present_rate(windows),
            lately=windows[0].total > 0,
            waiting=state.queued + state.ongoing > 0,
            running=state.running,
            target=state.running + state.starting,
            least=self._bounds.least,
            most=self._bounds.most,
        )
        decision = decide(self._settings, load, self._memory)
        self._memory = decision.memory
        return decision.replicas


class _VirtualTime:
    """In place of the module `time` in Serve's policy, which reads the clock itself."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s


class ServesOwn:
    """Ray Serve's default policy: its own code, its own delays, its own mean over the window.

    It sees every second what Serve sees every ten unless told otherwise.
    """

    def __init__(self, bounds: Bounds, **settings: Any) -> None:
        self.config = AutoscalingConfig(
            min_replicas=bounds.least, max_replicas=bounds.most, **settings
        )
        self._policy = serve_policy._apply_autoscaling_config(
            serve_policy.default_autoscaling_policy
        )
        self._seen: deque[tuple[float, int]] = deque()
        self._state: dict[str, Any] = {}
        self._time = _VirtualTime()

    def __call__(self, state: FleetState) -> int:
        """Return how many replicas there should be."""
        self._seen.append((state.now_s, state.ongoing + state.queued))
        while self._seen[0][0] <= state.now_s - self.config.look_back_period_s:
            self._seen.popleft()
        target = state.running + state.starting
        context = AutoscalingContext(
            deployment_id=UPSCALER,
            deployment_name=UPSCALER.name,
            app_name=UPSCALER.app_name,
            current_num_replicas=state.running,
            target_num_replicas=target,
            running_replicas=[],
            total_num_requests=_mean(number for _, number in self._seen),
            total_queued_requests=state.queued,
            aggregated_metrics={},
            raw_metrics={},
            capacity_adjusted_min_replicas=self.config.min_replicas,
            capacity_adjusted_max_replicas=self.config.max_replicas,
            policy_state=self._state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=state.now_s,
            config=self.config,
        )
        self._time.now_s = state.now_s
        with patch.object(serve_policy, "time", self._time):
            wanted, self._state = self._policy(context)
        return max(self.config.min_replicas, min(self.config.max_replicas, math.ceil(wanted)))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
