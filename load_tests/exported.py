"""What the service of this process's cluster has counted, as Prometheus would scrape it."""

import time
from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import isfinite

import httpx
import ray
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

SETTLE_S = 15
"""Replicas hand their counts on every ten seconds."""
ROWS = "ray_nullscale_batch_rows"
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
    """Add up the samples of all replicas.

    Rows are of the buckets' means: one and two exactly, above that as if all numbers of a bucket
    came as often. Ray's own sums are made of the buckets' middles, half a row for each single one.
    """
    batches: dict[str, dict[float, float]] = {}
    found: dict[str, float] = {}
    for family in families:
        for sample in family.samples:
            if sample.name == f"{ROWS}_bucket":
                below = batches.setdefault(sample.labels["phase"], {})
                most = float(sample.labels["le"])
                below[most] = below.get(most, 0.0) + sample.value
            elif sample.name == BUSY:
                found["busy_s"] = found.get("busy_s", 0.0) + sample.value
    for phase, below in batches.items():
        edges = [(0.0, 0.0), *sorted(below.items())]
        found[f"batches {phase}"] = edges[-1][1]
        found[f"rows {phase}"] = sum(
            (count - fewer) * ((least + 1 + most) / 2 if isfinite(most) else least + 1)
            for (least, fewer), (most, count) in pairwise(edges)
        )
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
