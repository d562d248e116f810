"""What the engines do, what goes wrong, and what the machines have left."""

from deployments.monitoring.panel import HOUR, Line, Panel, Q, Row, quantiles
from deployments.monitoring.queries import or_zero, selector

PHASE = ("phase",)
REPLICAS = 'Component=~"ray::ServeReplica.*"'

ENGINE = Row(
    "What do the engines do?",
    [
        Panel(
            "Efficiency",
            "percentunit",
            [
                Line(
                    f"{Q.rate(Q.ours('phase_seconds_total'))}"
                    f" / {Q.rate(Q.ours('busy_seconds_total'))}",
                    "networks",
                )
            ],
            "Share of the engines' working time that the networks run.",
        ),
        Panel(
            "Load",
            "percentunit",
            [Line(Q.rate(Q.ours("busy_seconds_total"), ("replica",)), "{{replica}}")],
            "Share of the time that each engine has work.",
        ),
        Panel(
            "Batch occupancy",
            "short",
            [
                Line(
                    f"{Q.rate(Q.ours('rows_total'), PHASE)}"
                    f" / {Q.rate(Q.ours('batch_rows_count'), PHASE)}",
                    "{{phase}}",
                )
            ],
            "Rows of a batch, on average.",
        ),
        Panel(
            "Time by phase",
            "percentunit",
            [Line(Q.rate(Q.ours("phase_seconds_total"), PHASE), "{{phase}}")],
            "Networks at work at a time.",
        ),
        Panel(
            "Step",
            "s",
            quantiles("step_seconds"),
            "A denoising step, on a picture's average; others' steps beside it are in it.",
        ),
        Panel(
            "Estimate's error",
            "percentunit",
            quantiles("estimate_error_ratio"),
            "Difference between the time that was foreseen and the true one, over the true one.",
        ),
        Panel(
            "Work within",
            "s",
            [Line(f"sum by (replica) ({Q.ours('work_seconds')})", "{{replica}}")],
            "Batched seconds of all that each engine has taken.",
        ),
        Panel(
            "Ended",
            "reqps",
            [Line(Q.rate(Q.ours("requests_total"), ("outcome",)), "{{outcome}}")],
            "Requests within the engines, by outcome: done, or the error's name.",
        ),
    ],
)

FAULTS = Row(
    "What goes wrong?",
    [
        Panel(
            "Sent to another worker",
            "short",
            [Line(or_zero(HOUR.events(HOUR.ours("retries_total"))), "in the hour before")],
            "Pictures whose worker was lost.",
        ),
        Panel(
            "Failed health checks",
            "short",
            [
                Line(
                    HOUR.events(HOUR.serves("health_check_failures_total"), ("deployment",)),
                    "{{deployment}}",
                ),
                Line("vector(0)", "none"),
            ],
            "In the hour before; a replica that dies counts once.",
        ),
        Panel(
            "Heartbeat",
            "s",
            [
                Line(Q.ours("engine_heartbeat_age_seconds"), "{{replica}}"),
                Line(f"max({Q.ours('engine_heartbeat_limit_seconds')})", "hung from here"),
            ],
            "Since each engine's thread last came round; it does so between batches.",
        ),
        Panel(
            "Out of memory",
            "short",
            [
                Line(HOUR.events(HOUR.ours("out_of_memory_total"), PHASE), "{{phase}}"),
                Line("vector(0)", "none"),
            ],
            "Batches split and rows refused, in the hour before.",
        ),
        Panel(
            "Start",
            "s",
            [Line(Q.ours("startup_seconds"), "{{replica}}")],
            "What each worker took to load its model and make a first picture.",
        ),
        Panel(
            "Missed deadlines",
            "reqps",
            [
                Line(
                    or_zero(Q.rate(Q.ours("http_requests_total", 'code="deadline_exceeded"'))),
                    "requests",
                ),
                Line(or_zero(Q.rate(Q.ours("jobs_total", 'code="deadline_exceeded"'))), "jobs"),
            ],
            "Those that the service could not end within their time.",
        ),
    ],
)

MACHINES = Row(
    "Machines",
    [
        Panel(
            "CPU",
            "percent",
            [Line("ray_node_cpu_utilization", "{{ip}}")],
            "Of each node, whatever runs on it.",
        ),
        Panel(
            "Memory",
            "percentunit",
            [Line("ray_node_mem_used / ray_node_mem_total", "{{ip}}")],
            "Of each node.",
            bad_from=0.9,
        ),
        Panel(
            "GPU",
            "percent",
            [Line("ray_node_gpus_utilization", "{{ip}} {{GpuIndex}}")],
            "Empty where there is none.",
        ),
        Panel(
            "GPU memory",
            "percentunit",
            [
                Line(
                    "ray_node_gram_used / (ray_node_gram_used + ray_node_gram_available)",
                    "{{ip}} {{GpuIndex}}",
                )
            ],
            "Empty where there is none.",
        ),
        Panel(
            "Memory by deployment",
            "bytes",
            [
                Line(
                    f"sum by (Component) ({selector('ray_component_rss_bytes', REPLICAS)})",
                    "{{Component}}",
                )
            ],
            "Resident, of all replicas.",
        ),
    ],
)
