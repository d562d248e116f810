"""Whether the service is up, what its clients see, and whether there is room for more."""

from deployments.monitoring.alerts import Thresholds
from deployments.monitoring.panel import MINUTE, Line, Panel, Q, Row, quantiles
from deployments.monitoring.queries import HEALTHY, PROXY_HEALTHY, UPSCALER, or_zero

TARGET = Thresholds()
UPSCALE = 'route="/v1/upscale"'
FAILED = 'status=~"5.."'
RUNNING = 'state="running"'
QUEUED = 'state="queued"'

UP = Row(
    "Is it up?",
    [
        Panel(
            "Proxies",
            "none",
            [
                Line(
                    or_zero(f"count({MINUTE.last('ray_serve_proxy_status')} == {PROXY_HEALTHY})"),
                    "",
                )
            ],
            "HTTP proxies that Serve calls healthy; one a node with replicas.",
            number=True,
            good_from=1,
        ),
        Panel(
            "Ingress",
            "none",
            [Line(or_zero(f"count({Q.ours('http_in_flight')})"), "")],
            "Replicas of the Ingress that report.",
            number=True,
            good_from=1,
        ),
        Panel(
            "Workers",
            "none",
            [Line(or_zero(f"count({Q.ours('build_info')})"), "")],
            "Replicas of the Upscaler that are warm and report.",
            number=True,
            good_from=1,
        ),
        Panel(
            "Deployments not healthy",
            "none",
            [
                Line(
                    or_zero(f"count({MINUTE.last(Q.serves('deployment_status'))} != {HEALTHY})"), ""
                )
            ],
            "By Serve's own account; one that grows, shrinks or is upgraded counts.",
            number=True,
            bad_from=1,
        ),
        Panel(
            "Alerts",
            "none",
            [Line('count(ALERTS{alertname=~"Nullscale.*",alertstate="firing"}) or vector(0)', "")],
            "Alerts that fire; each has its section in the runbook.",
            number=True,
            bad_from=1,
        ),
        Panel(
            "What runs",
            "none",
            [
                Line(
                    f"count by (version, model, device, dtype) ({Q.ours('build_info')})",
                    "{{version}} {{model}} {{device}} {{dtype}}",
                )
            ],
            "Workers by version and model: two of them while an upgrade is under way.",
            number=True,
        ),
    ],
)

CLIENTS = Row(
    "What do clients see?",
    [
        Panel(
            "Requests",
            "reqps",
            [Line(Q.rate(Q.ours("http_requests_total"), ("status",)), "{{status}}")],
            "By status; 499 is a client that left.",
        ),
        Panel(
            "Failures",
            "percentunit",
            [
                Line(
                    f"{or_zero(Q.rate(Q.ours('http_requests_total', FAILED)))}"
                    f" / {Q.rate(Q.ours('http_requests_total'))}",
                    "of all requests",
                ),
            ],
            "Share of answers with a status of 500 or more, refusals for want of room included.",
            bad_from=TARGET.failed_share,
        ),
        Panel(
            "A picture's time",
            "s",
            quantiles("http_request_seconds", UPSCALE, 'status="200"'),
            "From a request's headers to the last byte of its picture; jobs are not in it.",
            bad_from=TARGET.slow_s,
        ),
        Panel(
            "Refused",
            "reqps",
            [
                Line(Q.rate(Q.ours("refused_total"), ("code",)), "{{code}}"),
                Line(
                    "sum by (code) (rate(ray_nullscale_proxy_refused_total[$__rate_interval]))",
                    "{{code}} (proxy)",
                ),
            ],
            "By the problem's code. The proxy's have no application.",
        ),
        Panel(
            "Problems",
            "reqps",
            [Line(Q.rate(Q.ours("http_requests_total", 'code!="ok"'), ("code",)), "{{code}}")],
            "Everything but success, by code.",
        ),
        Panel(
            "In flight",
            "short",
            [
                Line(f"sum({Q.ours('http_in_flight')})", "requests"),
                Line(or_zero(f"sum({Q.ours('unfinished_jobs', RUNNING)})"), "jobs"),
            ],
            "Requests without a full answer, event streams included, and jobs with the workers.",
        ),
    ],
)

ROOM = Row(
    "Is there room?",
    [
        Panel(
            "Predicted wait",
            "s",
            [
                Line(f"max({Q.ours('predicted_wait_seconds')})", "predicted"),
                Line(f"vector({TARGET.wait_s:g})", "alert"),
            ],
            "How long a picture that comes now would wait.",
            bad_from=TARGET.wait_s,
        ),
        Panel(
            "Outstanding work",
            "s",
            [Line(f"sum({Q.ours('outstanding_work_seconds')})", "work")],
            "Seconds that one worker would need for all that has come and is not done.",
        ),
        Panel(
            "Replicas",
            "short",
            [
                Line(f"count({Q.ours('build_info')})", "warm"),
                Line(
                    f"sum({MINUTE.last(Q.serves('deployment_replica_healthy', UPSCALER))})",
                    "healthy",
                ),
            ],
            "Of the Upscaler: those that report, and those that Serve counts.",
        ),
        Panel(
            "Waiting pictures",
            "short",
            [
                Line(f"sum({Q.serves('deployment_queued_queries', UPSCALER)})", "for a worker"),
                Line(f"sum({Q.ours('waiting_requests')})", "within workers"),
                Line(or_zero(f"sum({Q.ours('unfinished_jobs', QUEUED)})"), "as jobs"),
            ],
            "In the routers' queues, in the engines', and with the owner of the jobs.",
        ),
    ],
)
