"""What the service of this process's cluster has counted, as Prometheus would scrape it."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping

import httpx
import ray
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

SETTLE_S = 15
"""Replicas hand their counts on every ten seconds."""
PER_PHASE = {"ray_nullscale_rows_total": "rows", "ray_nullscale_batch_rows_count": "batches"}
BUSY = "ray_nullscale_busy_seconds_total"

Counts = Mapping[str, float]


def counts() -> Counts:
    """Return how many batches, and rows in them, of each phase there were, and the busy seconds.

    Counts of the last seconds are waited for.
    """
    time.sleep(SETTLE_S)
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    return read(text_string_to_metric_families(httpx.get(url, timeout=30).raise_for_status().text))


def read(families: Iterable[Metric]) -> Counts:
    """Add up the samples of all replicas."""
    found: Counter[str] = Counter()
    for family in families:
        for sample in family.samples:
            if sample.name in PER_PHASE:
                found[f"{PER_PHASE[sample.name]} {sample.labels['phase']}"] += sample.value
            elif sample.name == BUSY:
                found["busy_s"] += sample.value
    return found


def occupancy(before: Counts, after: Counts) -> dict[str, float]:
    """Return the mean rows a batch between two counts, by phase."""
    phases = [name.removeprefix("batches ") for name in after if name.startswith("batches ")]
    found = {}
    for phase in phases:
        rows, batches = (
            after[f"{kind} {phase}"] - before.get(f"{kind} {phase}", 0.0)
            for kind in ("rows", "batches")
        )
        if batches:
            found[phase] = round(rows / batches, 3)
    return found
