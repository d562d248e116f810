"""Counts out of Prometheus' text, added up over replicas and subtracted."""

from exported import occupancy, read
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nullscale.scheduling.work import Kind, Phase
from sr_engine.metrics import Metrics, PrometheusRecorder


def scraped(*batches: list[tuple[Phase, int]]) -> dict[str, float]:
    """What replicas export whose engines have run these batches, by Ray's names."""
    lines: list[str] = []
    for replica in batches:
        registry = CollectorRegistry()
        metrics = Metrics(PrometheusRecorder(registry))
        for phase, rows in replica:
            metrics.batch(Kind(phase, 8, 8), rows, 0.5)
            metrics.busy(0.75)
        text = generate_latest(registry).decode()
        lines += [f"ray_{line}" for line in text.splitlines() if not line.startswith("#")]
    families = text_string_to_metric_families("\n".join(lines) + "\n")
    return dict(read(families))


def test_replicas_add_up() -> None:
    found = scraped([(Phase.DENOISE, 4), (Phase.DECODE, 1)], [(Phase.DENOISE, 2)])
    assert found == {
        "rows denoise": 6,
        "batches denoise": 2,
        "rows decode": 1,
        "batches decode": 1,
        "busy_s": 2.25,
    }


def test_only_what_came_in_between_counts() -> None:
    before = scraped([(Phase.DENOISE, 4), (Phase.ENCODE, 1)])
    after = scraped(
        [(Phase.DENOISE, 4), (Phase.ENCODE, 1), (Phase.DENOISE, 1), (Phase.DENOISE, 2)],
        [(Phase.DECODE, 20)],
    )
    assert occupancy(before, after) == {"denoise": 1.5, "decode": 20}
