"""The settings of a configuration that must agree, and what becomes of it where they do not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deployments.app import AppArgs
from deployments.autoscaling import ByWork
from deployments.limits import IngressSettings
from deployments.upscaler import UpscalerSettings

PREFETCH = 4
"""Times `max_active` that a replica may accept: what it has accepted can move to no other."""
BYTES_A_PIXEL = 4
"""A result that does not compress, with transparency."""
POLICY = f"{ByWork.__module__}:{ByWork.__name__}"
"""The policy whose needs are known."""


@dataclass(frozen=True, slots=True)
class Whole:
    """One application, whose parts are each valid.

    Attributes:
        parts: the deployments, by name.
        policy: the application's `autoscaling_policy`; empty where it has none.
        proxy_body_bytes: at which the proxies stop reading a body.
    """

    args: AppArgs
    ingress_settings: IngressSettings
    upscaler_settings: UpscalerSettings
    parts: Mapping[str, Mapping[str, Any]]
    policy: Mapping[str, Any]
    http_options: Mapping[str, Any]
    proxy_body_bytes: int


def disagreements(whole: Whole) -> Iterator[str]:
    """Say of each pair of settings that does not agree what it leads to."""
    yield from _of_times(whole)
    yield from _of_queues(whole)
    yield from _of_bytes(whole)
    yield from _of_replicas(whole)
    yield from _of_autoscaling(whole)


def _of_times(whole: Whole) -> Iterator[str]:
    args, limits = whole.args, whole.ingress_settings.limits
    for name in ("Ingress", "Upscaler"):
        drain_s = whole.parts[name].get("graceful_shutdown_timeout_s", 20)
        if drain_s <= args.upscale_timeout_s:
            yield (
                f"{name}: graceful_shutdown_timeout_s must be above upscale_timeout_s, or scaling"
                " down and upgrades cut long pictures off"
            )
    period_s = whole.parts["Upscaler"].get("health_check_period_s", 10)
    if args.heartbeat_limit_s + period_s >= args.upscale_timeout_s:
        yield (
            "heartbeat_limit_s and health_check_period_s must together be below upscale_timeout_s,"
            " or a hung replica's pictures are late before another gets them"
        )
    if limits.max_wait_s > args.upscale_timeout_s:
        yield "limits.max_wait_s must not be above upscale_timeout_s: what waits so long is late"
    if limits.body_timeout_s >= args.upscale_timeout_s:
        yield "limits.body_timeout_s must be below upscale_timeout_s"
    if args.jobs.timeout_s < args.upscale_timeout_s:
        yield "jobs.timeout_s must not be below upscale_timeout_s: jobs are for what takes longer"
    if whole.http_options.get("request_timeout_s"):
        yield "http_options.request_timeout_s cuts event streams; upscale_timeout_s is the deadline"


def _of_queues(whole: Whole) -> Iterator[str]:
    upscaler, ingress = whole.parts["Upscaler"], whole.parts["Ingress"]
    active = whole.upscaler_settings.max_active
    slots = upscaler.get("max_ongoing_requests", 5)
    if not active < slots <= PREFETCH * active:
        yield (
            f"Upscaler: max_ongoing_requests must be above max_active, so that a place that comes"
            f" free is taken at once, and at most {PREFETCH} times that"
        )
    queue = upscaler.get("max_queued_requests", -1)
    if queue < 1:
        yield "Upscaler: max_queued_requests must be set, or the queue has no end"
        return
    if queue * _fewest(ingress) < slots * _most(upscaler):
        yield (
            "Upscaler: max_queued_requests, times the fewest replicas of the Ingress, must fill the"
            " most replicas' max_ongoing_requests, or pictures are refused that new replicas could"
            " take long before max_wait_s is reached"
        )
    if ingress.get("max_ongoing_requests", 5) <= queue + slots:
        yield (
            "Ingress: max_ongoing_requests must be above the Upscaler's max_queued_requests and"
            " max_ongoing_requests together, or Serve's proxy refuses before the Ingress can"
        )
    if whole.args.jobs.max_running >= queue:
        yield "jobs.max_running must be below max_queued_requests, or jobs alone fill the queue"
    for name, part in (("Ingress", ingress), ("Upscaler", upscaler)):
        target = (part.get("autoscaling_config") or {}).get("target_ongoing_requests", 2)
        if part.get("autoscaling_config") and target >= part.get("max_ongoing_requests", 5):
            yield f"{name}: target_ongoing_requests must be below max_ongoing_requests"


def _of_bytes(whole: Whole) -> Iterator[str]:
    limits = whole.ingress_settings.limits
    if limits.max_body_bytes > whole.proxy_body_bytes:
        yield "limits.max_body_bytes is above NULLSCALE_MAX_BODY_BYTES, where proxies stop reading"
    if limits.max_bodies_bytes < limits.max_body_bytes:
        yield "limits.max_bodies_bytes must not be below max_body_bytes"
    if whole.args.jobs.max_bytes < BYTES_A_PIXEL * limits.max_output_pixels:
        yield "jobs.max_bytes has no room for one result of limits.max_output_pixels"


def _of_replicas(whole: Whole) -> Iterator[str]:
    jobs, upscaler = whole.parts["Jobs"], whole.parts["Upscaler"]
    if not _fewest(jobs) == _most(jobs) == 1:
        yield "Jobs: its replicas must be 1: each replica would know its own jobs only"
    if jobs.get("max_surge_percent", 0):
        yield "Jobs: max_surge_percent must be 0: two at a time would know their own jobs only"
    gpus = upscaler.get("ray_actor_options", {}).get("num_gpus") or 0
    if gpus != int(gpus):
        yield "Upscaler: num_gpus must be whole: replicas with fractions share one GPU's memory"


def _of_autoscaling(whole: Whole) -> Iterator[str]:
    scaling = {name: part.get("autoscaling_config") or {} for name, part in whole.parts.items()}
    sleeps = _fewest(whole.parts["Upscaler"]) == 0
    if sleeps != (whole.args.cold_start_s is not None):
        yield (
            "cold_start_s must be set where the Upscaler's min_replicas is 0, so that pictures wait"
            " for a start, and nowhere else"
        )
    if not whole.policy:
        return
    name = str(whole.policy.get("policy_function"))
    # Serve takes a dot for the colon as well.
    if name.replace(":", ".") != POLICY.replace(":", "."):
        yield f"autoscaling_policy: {name} is not {POLICY}: what it needs cannot be checked"
        return
    try:
        policy = ByWork(**whole.policy.get("policy_kwargs", {})).settings
    except (TypeError, ValueError) as err:
        yield f"autoscaling_policy: {err}"
        return
    max_wait_s = whole.ingress_settings.limits.max_wait_s
    if policy.shrink_delay_s <= policy.start_s:
        yield (
            "autoscaling_policy: shrink_delay_s must be above start_s, or a pause between bursts"
            " costs a start"
        )
    if policy.sleep_delay_s < policy.shrink_delay_s:
        yield "autoscaling_policy: sleep_delay_s must not be below shrink_delay_s"
    if policy.target_wait_s > max_wait_s / 2:
        yield (
            "autoscaling_policy: target_wait_s must be at most half of limits.max_wait_s, or"
            " clients are refused before replicas are added"
        )
    if policy.start_s + policy.recover_s > max_wait_s:
        yield (
            "autoscaling_policy: start_s and recover_s together must not be above"
            " limits.max_wait_s, or clients are refused while replicas start"
        )
    for name, config in scaling.items():
        if not config:
            yield f"{name}: without an autoscaling_config the policy hears nothing of it"
        elif config.get("metrics_interval_s", 10) > 2 or config.get("look_back_period_s", 30) > 10:
            yield (
                f"{name}: metrics_interval_s must be 2 at most and look_back_period_s 10, or the"
                " policy hears late"
            )
    upscaler = scaling["Upscaler"]
    if upscaler.get("upscale_delay_s", 30) or upscaler.get("downscale_delay_s", 600):
        yield (
            "Upscaler: upscale_delay_s and downscale_delay_s must be 0: the policy has delays of"
            " its own"
        )


def _fewest(part: Mapping[str, Any]) -> int:
    return int((part.get("autoscaling_config") or {}).get("min_replicas", _fixed(part)))


def _most(part: Mapping[str, Any]) -> int:
    return int((part.get("autoscaling_config") or {}).get("max_replicas", _fixed(part)))


def _fixed(part: Mapping[str, Any]) -> int:
    number = part.get("num_replicas", 1)
    return number if isinstance(number, int) else 1
