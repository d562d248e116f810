"""Alert rules: what an operator has to know of, and how they are told it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import yaml

from deployments.monitoring.queries import (
    HEALTHY,
    PROXY_HEALTHY,
    UPSCALER,
    Queries,
    or_zero,
)

RUNBOOK = "docs/operations.md"
SHORTEST_S = 15.0
"""No window is shorter, however fast the pace: in less, nothing new may have been scraped."""

Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where the good ends.

    Attributes:
        failed_share: of pictures and requests, by fault of the service.
        refused_share: of pictures, for want of room.
        late_share: of pictures, whose time ran out.
        wait_s: for which a picture may have to wait.
        slow_s: within which 95 of 100 pictures should be back.
        splits: batches that did not fit, in half an hour; the first ones teach how many rows do.
        hung_share: of the age at which an engine counts as hung and its replica leaves.
    """

    failed_share: float = 0.02
    refused_share: float = 0.05
    late_share: float = 0.02
    wait_s: float = 30.0
    slow_s: float = 120.0
    splits: int = 3
    hung_share: float = 0.5


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule; ``for_s`` is how long its expression must have had a result."""

    name: str
    severity: Severity
    expr: str
    for_s: float
    summary: str
    description: str


def alerts(
    application: str = "nullscale", limits: Thresholds | None = None, pace: float = 1.0
) -> list[Alert]:
    """Return the rules, the most urgent first.

    Args:
        application: its name in Serve's configuration.
        pace: share of their usual length that all windows and delays have; below 1 for tests.
    """
    limits = limits or Thresholds()

    def over(seconds: float) -> Queries:
        return Queries(application, duration(max(SHORTEST_S, seconds * pace)))

    found = [
        *_absences(over(60)),
        *_failures(over(300), limits),
        *_lacks(over(300), over(600), limits),
        *_faults(over(900), over(1800), limits),
    ]
    return [replace(alert, for_s=alert.for_s * pace) for alert in found]


def rules(found: Sequence[Alert]) -> str:
    """Write alerts as a rules file for Prometheus."""
    entries = [
        {
            "alert": alert.name,
            "expr": alert.expr,
            "for": duration(alert.for_s),
            "labels": {"severity": alert.severity},
            "annotations": {
                "summary": alert.summary,
                "description": alert.description,
                "runbook_url": f"{RUNBOOK}#{alert.name.lower()}",
            },
        }
        for alert in found
    ]
    groups = {"groups": [{"name": "nullscale", "rules": entries}]}
    text: str = yaml.safe_dump(groups, sort_keys=False, width=10_000)
    return text


def duration(seconds: float) -> str:
    """Write a time as Prometheus reads it."""
    if seconds % 60 == 0:
        return f"{seconds / 60:.0f}m"
    return f"{1000 * seconds:.0f}ms" if seconds % 1 else f"{seconds:.0f}s"


def _absences(q: Queries) -> list[Alert]:
    workers = q.last(q.ours("build_info"))
    status = q.last(q.serves("deployment_status", UPSCALER))
    return [
        Alert(
            "NullscaleNothingScraped",
            "critical",
            'absent(up{job="ray"})',
            300,
            "Prometheus knows no node of the cluster",
            "Nothing is known of the service: none of the other alerts can be trusted.",
        ),
        Alert(
            "NullscaleTargetDown",
            "warning",
            'up{job="ray"} == 0',
            120,
            "A node's metrics cannot be read",
            "{{ $labels.instance }} does not answer Prometheus.",
        ),
        Alert(
            "NullscaleProxyAbsent",
            "critical",
            f"absent({q.last('ray_serve_proxy_status')} == {PROXY_HEALTHY})",
            60,
            "No HTTP proxy runs",
            "Clients cannot connect to any node.",
        ),
        Alert(
            "NullscaleIngressAbsent",
            "critical",
            f"absent({q.last(q.ours('http_in_flight'))})",
            60,
            "No replica of the Ingress runs",
            "Clients are answered 503 not_ready, or nothing.",
        ),
        Alert(
            "NullscaleNoWorker",
            "critical",
            f"absent({workers}) unless on () ({status} == {HEALTHY})",
            180,
            "No replica of the Upscaler is ready",
            "Pictures and jobs wait, and new ones are turned away. Scaled to zero on purpose, Serve"
            " calls the deployment healthy and this does not fire.",
        ),
    ]


def _failures(q: Queries, limits: Thresholds) -> list[Alert]:
    kinds = 'code!~"overloaded|deadline_exceeded|jobs_paused"'
    requests = q.ours("http_requests_total", 'route!~"/livez|/readyz|unmatched"')
    failed = q.ours("http_requests_total", 'route!~"/livez|/readyz"', 'status=~"5.."', kinds)
    jobs, failed_jobs = (
        q.ours("jobs_total", *matchers) for matchers in ((), ('state="failed"', kinds))
    )
    bad = f"({or_zero(q.rate(failed))} + {or_zero(q.rate(failed_jobs))})"
    everything = f"({or_zero(q.rate(requests))} + {or_zero(q.rate(jobs))})"
    return [
        Alert(
            "NullscaleFailures",
            "critical",
            f"{bad} / {everything} > {limits.failed_share}",
            300,
            "Requests or jobs fail",
            "{{ $value | humanizePercentage }} of requests and jobs fail by fault of the service.",
        )
    ]


def _lacks(q: Queries, longer: Queries, limits: Thresholds) -> list[Alert]:
    pictures = q.rate(q.ours("http_requests_total", 'route="/v1/upscale"'))
    refused = q.rate(q.ours("refused_total", 'code="overloaded"'))
    late = q.rate(q.ours("http_requests_total", 'code="deadline_exceeded"'))
    late_jobs = q.rate(q.ours("jobs_total", 'code="deadline_exceeded"'))
    slow = longer.quantile(0.95, "http_request_seconds", 'route="/v1/upscale"', 'status="200"')
    return [
        Alert(
            "NullscaleOverloaded",
            "warning",
            f"{refused} / {pictures} > {limits.refused_share}",
            300,
            "Pictures are refused for want of room",
            "{{ $value | humanizePercentage }} of pictures are answered 503 overloaded.",
        ),
        Alert(
            "NullscaleLongWait",
            "warning",
            f"max({q.last(q.ours('predicted_wait_seconds'))}) > {limits.wait_s:g}",
            300,
            "A picture that comes now will wait for long",
            "For {{ $value | humanizeDuration }}, at the rate at which work is done.",
        ),
        Alert(
            "NullscaleSlow",
            "warning",
            f"{slow} > {limits.slow_s:g}",
            600,
            "Pictures take long",
            "One in twenty takes more than {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "NullscaleLate",
            "warning",
            f"({or_zero(late)} + {or_zero(late_jobs)}) / {pictures} > {limits.late_share}",
            300,
            "Pictures miss their deadlines",
            "{{ $value | humanizePercentage }} of pictures are not done within their time.",
        ),
    ]


def _faults(q: Queries, longer: Queries, limits: Thresholds) -> list[Alert]:
    retries = q.events(q.ours("retries_total"))
    lost = q.events(q.serves("health_check_failures_total", UPSCALER))
    age, limit = (q.ours(f"engine_heartbeat_{what}_seconds") for what in ("age", "limit"))
    splits = longer.events(longer.ours("out_of_memory_total"))
    broken = longer.events(longer.ours("pictures_total", 'consistency="broken"'))
    return [
        Alert(
            "NullscaleWorkersLost",
            "warning",
            f"{or_zero(retries)} + {or_zero(lost)} > 0",
            0,
            "Replicas of the Upscaler are lost",
            "Pictures had to be sent to another replica, or health checks failed.",
        ),
        Alert(
            "NullscaleEngineHangs",
            "warning",
            f"{age} > {limits.hung_share} * {limit}",
            0,
            "An engine has not finished a batch for long",
            "Replica {{ $labels.replica }}: for {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "NullscaleOutOfMemory",
            "warning",
            f"{splits} > {limits.splits}",
            0,
            "Batches do not fit in the device's memory",
            "{{ $value }} had to be split, or were refused, in the last half hour.",
        ),
        Alert(
            "NullscaleInconsistent",
            "warning",
            f"{broken} > 0",
            0,
            "Pictures do not give their inputs back",
            "{{ $value }} should have, bit for bit, and did not.",
        ),
    ]
