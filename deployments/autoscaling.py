"""The application-level autoscaling policy for Serve that is named in the YAML: `ByWork`.

It runs in Serve's controller, many times a second, and the dashboard and the command `serve` import
it as well: standard library only. What it decides is `deployments.sizing.decide`.
"""

import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from deployments.sizing import Load, Memory, Settings, decide, longest_start_s
from deployments.workload import COUNTED_S, WINDOWS_S, Window, present_rate, seconds_of, told_as

UPSCALER = "Upscaler"

# The controller's own logger: its handlers, its level, its encoding.
logger = logging.getLogger("ray.serve")


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
        utilisation: float = 0.75,
        shrink_delay_s: float = 65.0,
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
                longest_start_s(self.settings, load),
                *(decision.keep_up, decision.catch_up),
            )
        if decision.replicas and not upscaler.current_num_replicas:
            # As long as none runs, Serve itself would start one for any request, and ask no policy.
            upscaler.total_num_requests = 0.0
        return decision.replicas


def load_of(upscaler: Context, contexts: Iterable[Context]) -> Load:
    """Sum up what the replicas of all deployments have last told (`record_autoscaling_stats`)."""
    told = list(contexts)
    # The sums are of all that the oldest process has seen, whenever the others began.
    counted_s = max((value for each in told for value in _last(each, COUNTED_S)), default=0.0)
    windows = [
        Window(seconds_of(window_s, counted_s), *[_sum(told, name) for name in told_as(window_s)])
        for window_s in WINDOWS_S
    ]
    return Load(
        now_s=upscaler.current_time,
        outstanding_s=_sum(told, "outstanding_work_s"),
        arriving=present_rate(windows),
        lately=windows[0].total > 0,
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
