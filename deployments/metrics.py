"""The engine's metrics inside a replica: on Ray's own instruments, exported with Serve's."""

from collections.abc import Sequence

from ray.serve.metrics import Counter, Gauge, Histogram

from sr_engine.metrics import Record


class RayRecorder:
    """Makes Ray's instruments; Serve adds the application, deployment and replica as labels."""

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Record:
        """Return what adds to a counter."""
        made = Counter(name, text, tuple(labels))
        return lambda value, **given: made.inc(value, given)

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Record:
        """Return what sets a gauge."""
        made = Gauge(name, text, tuple(labels))
        return lambda value, **given: made.set(value, given)

    def histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Record:
        """Return what observes a value."""
        made = Histogram(name, text, list(buckets), tuple(labels))
        return lambda value, **given: made.observe(value, given)
