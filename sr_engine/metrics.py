"""What the engine counts, by Prometheus' conventions, on whatever records it.

``rate(nullscale_phase_seconds_total) / rate(nullscale_busy_seconds_total)`` is the efficiency:
the share of the engine's working time that the networks run.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from nullscale.scheduling.work import Kind
from sr_engine.events import UpscaleResult

logger = logging.getLogger(__name__)

Record = Callable[..., None]
"""Takes a value, and the labels' values by name."""

ROWS = (1, 2, 4, 8, 16)
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
SHARES = (0.01, 0.03, 0.1, 0.3, 1, 3)
DECIBELS = (10, 20, 30, 40, 50, 60, 80)


@runtime_checkable
class Recorder(Protocol):
    """Makes instruments of one metrics library."""

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Record:
        """Return what adds to a counter."""

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Record:
        """Return what sets a gauge."""

    def histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Record:
        """Return what observes a value."""


class PrometheusRecorder:
    """prometheus-client's instruments, in a registry of their own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Record:
        """Return what adds to a counter."""
        made = Counter(name, text, labels, registry=self.registry)
        return lambda value, **given: (made.labels(**given) if given else made).inc(value)

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Record:
        """Return what sets a gauge."""
        made = Gauge(name, text, labels, registry=self.registry)
        return lambda value, **given: (made.labels(**given) if given else made).set(value)

    def histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Record:
        """Return what observes a value."""
        made = Histogram(name, text, labels, buckets=buckets, registry=self.registry)
        return lambda value, **given: (made.labels(**given) if given else made).observe(value)


def forgiving(make: Callable[..., Record]) -> Callable[..., Record]:
    """Make instruments that never fail: no picture is lost to a count."""

    def made(*args: object) -> Record:
        record = make(*args)

        def careful(value: float, **labels: str) -> None:
            try:
                record(value, **labels)
            except Exception:
                logger.exception("a metric could not be recorded")

        return careful

    return made


class Metrics:
    """The engine's instruments."""

    def __init__(self, recorder: Recorder) -> None:
        counter, gauge = forgiving(recorder.counter), forgiving(recorder.gauge)
        histogram = forgiving(recorder.histogram)
        self._load = 0, 0.0
        self._waiting = gauge("nullscale_waiting_requests", "Requests that wait")
        self._work = gauge("nullscale_work_seconds", "Batched work of all requests that are here")
        self._busy = counter("nullscale_busy_seconds_total", "Time with work at hand")
        self._phase = counter("nullscale_phase_seconds_total", "Time in the networks", ["phase"])
        self._batch_rows = histogram("nullscale_batch_rows", "Rows of a batch", ROWS, ["phase"])
        # Ray exports a histogram's sum as made of its buckets' middles.
        self._rows = counter("nullscale_rows_total", "Rows of all batches", ["phase"])
        self._unfitting = counter(
            "nullscale_out_of_memory_total", "Batches and rows that did not fit", ["phase"]
        )
        self._step = histogram("nullscale_step_seconds", "A step, on a request's average", SECONDS)
        self._ended = counter("nullscale_requests_total", "Requests that ended", ["outcome"])
        self._estimate = histogram(
            "nullscale_estimate_error_ratio",
            "Difference between estimated and true time to the end, over the true one",
            SHARES,
        )
        self._exact = counter("nullscale_exact_pictures_total", "Pictures that give theirs back")
        self._psnr = histogram(
            "nullscale_consistency_psnr_db", "Of pictures that do not quite", DECIBELS
        )

    def queue(self, waiting: int, work_s: float) -> None:
        """Take note of the present load."""
        self._load = waiting, work_s
        self.refresh()

    def refresh(self) -> None:
        """Say the gauges again, for recorders that drop what has not been set for a while."""
        waiting, work_s = self._load
        self._waiting(waiting)
        self._work(work_s)

    def busy(self, seconds: float) -> None:
        """Take note of time spent on requests."""
        self._busy(seconds)

    def batch(self, kind: Kind, rows: int, seconds: float) -> None:
        """Take note of a batch that ran."""
        self._batch_rows(rows, phase=kind.phase.value)
        self._rows(rows, phase=kind.phase.value)
        self._phase(seconds, phase=kind.phase.value)

    def out_of_memory(self, kind: Kind) -> None:
        """Take note of a batch, or a row alone, that did not fit."""
        self._unfitting(1, phase=kind.phase.value)

    def failed(self, error: Exception) -> None:
        """Take note of a request without a result."""
        self._ended(1, outcome=type(error).__name__)

    def finished(self, result: UpscaleResult, steps: int, estimated_s: float) -> None:
        """Take note of a result, and of how well its time had been foreseen."""
        consistency, took_s = result.consistency, result.queue_s + result.compute_s
        self._ended(1, outcome="done")
        self._step(result.compute_s / steps)
        self._estimate(abs(estimated_s - took_s) / max(took_s, 1e-9))
        if consistency.exact:
            self._exact(1)
        elif consistency.psnr_db is not None:
            self._psnr(consistency.psnr_db)
