"""A service on this machine whose replicas come and go, and a watch on how many there are."""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cluster
from arrivals import Kind
from open_loop import Record
from ray import serve
from ray.exceptions import RayError

SLOW = 60
"""Times an H100's seconds: a picture of 256² px then takes a second and this machine nothing."""
KIND = Kind(height_px=64, width_px=64, steps=8)
WORK_S = 1.0
"""Of one of them."""
GREW = re.compile(r"autoscaling Upscaler from (\d+) to (\d+)")


@dataclass(slots=True)
class Watch:
    """Replicas over time; the clock is that of `time.perf_counter`."""

    seen: list[tuple[float, int, int]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Note replicas that run and those that there are, twice a second, until told to stop."""
        while not self.stop.wait(0.5):
            running, there = replicas()
            self.seen.append((time.perf_counter(), running, there))

    @property
    def replica_s(self) -> float:
        """Seconds of all replicas that there were."""
        pairs = zip(self.seen, self.seen[1:], strict=False)
        return sum((after[0] - before[0]) * before[2] for before, after in pairs)


def replicas() -> tuple[int, int]:
    """Return how many upscalers run, and how many there are: starting and stopping ones too."""
    try:
        states: Mapping[str, int] = (
            serve.status().applications[cluster.APP].deployments["Upscaler"].replica_states
        )
    except (RayError, KeyError):
        return 0, 0
    return int(states.get("RUNNING", 0)), int(sum(states.values()))


@contextmanager
def watched() -> Iterator[Watch]:
    """Watch the replicas on a thread."""
    watch = Watch()
    thread = threading.Thread(target=watch.look)
    thread.start()
    try:
        yield watch
    finally:
        watch.stop.set()
        thread.join()


def scaled(
    most: int,
    policy: Mapping[str, float] | None,
    *,
    least: int = 1,
    cold_start_s: float | None = None,
    **serves: Any,
) -> dict[str, Any]:
    """Return a configuration whose upscalers follow the load.

    Args:
        policy: arguments of `deployments.autoscaling.ByWork`; None leaves it to Serve's own, which
            goes by ``serves``, settings of an `autoscaling_config`.
    """
    config = cluster.configured(
        {
            "model": f"simulated:sd3.5-medium-h100?slow={SLOW}",
            "cold_start_s": cold_start_s,
            "max_active": 2,
            "limits": {
                "max_input_pixels": 2**16,
                "max_output_pixels": 2**20,
                "max_body_bytes": 2**20,
                "max_wait_s": 600,
            },
        },
        {},
    )
    (application,) = config["applications"]
    told = {"metrics_interval_s": 1, "look_back_period_s": 2}
    for name, bounds in (("Ingress", (1, 1)), ("Jobs", (1, 1)), ("Upscaler", (least, most))):
        part = cluster.deployment_of(config, name)
        del part["num_replicas"]
        part["autoscaling_config"] = {
            "min_replicas": bounds[0],
            "max_replicas": bounds[1],
            **told,
            **({"upscale_delay_s": 0, "downscale_delay_s": 0} if policy is not None else serves),
        }
    upscaler = cluster.deployment_of(config, "Upscaler")
    # Else nobody would know when it is in good health.
    upscaler["autoscaling_config"]["initial_replicas"] = max(1, least)
    # Few at once, so that new replicas find some that wait; and all of them are waited for.
    upscaler |= {
        "max_ongoing_requests": 4,
        "max_queued_requests": 2000,
        "graceful_shutdown_timeout_s": 120,
    }
    cluster.deployment_of(config, "Ingress")["max_ongoing_requests"] = 5000
    if policy is not None:
        application["autoscaling_policy"] = {
            "policy_function": "deployments.autoscaling:ByWork",
            "policy_kwargs": dict(policy),
        }
    return config


def decisions() -> list[tuple[int, int]]:
    """Return what our policy has decided, as its log lines say: from how many to how many."""
    return [
        (int(found[1]), int(found[2]))
        for path in sorted(cluster.serve_logs().glob("controller_*.log"))
        for found in GREW.finditer(path.read_text())
    ]


def wait_s(records: list[Record], watch: Watch, start_s: float) -> list[tuple[float, float]]:
    """Return the predicted wait at each look: work that is out over replicas that run."""
    found = []
    for now_s, running, _ in watch.seen:
        now_s -= start_s
        out = sum(record.intended_s <= now_s < record.done_s for record in records)
        found.append((now_s, out * WORK_S / max(1, running)))
    return found
