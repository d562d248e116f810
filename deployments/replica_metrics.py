"""What a worker says of itself."""

from collections.abc import Mapping

from sr_engine.metrics import Recorder, forgiving


class ReplicaMetrics:
    """What a worker says of itself.

    Args:
        labels: what it is; they do not change.
        startup_s: from its constructor's call to its first picture.
        heartbeat_limit_s: the age of the engine's heartbeat at which it counts as hung.
    """

    def __init__(
        self,
        recorder: Recorder,
        labels: Mapping[str, str],
        *,
        startup_s: float,
        heartbeat_limit_s: float,
    ) -> None:
        gauge = forgiving(recorder.gauge)
        self._labels = dict(labels)
        self._startup_s, self._heartbeat_limit_s = startup_s, heartbeat_limit_s
        self._build = gauge("nullscale_build_info", "What a worker is: always 1", [*labels])
        self._startup = gauge("nullscale_startup_seconds", "A worker's time until it was warm")
        self._age = gauge(
            "nullscale_engine_heartbeat_age_seconds", "Since the engine's thread last came round"
        )
        self._limit = gauge(
            "nullscale_engine_heartbeat_limit_seconds", "The age at which an engine counts as hung"
        )

    def refresh(self, heartbeat_age_s: float) -> None:
        """Say all of it again: Ray drops what has not been set for some twenty seconds."""
        self._build(1, **self._labels)
        self._startup(self._startup_s)
        self._age(heartbeat_age_s)
        self._limit(self._heartbeat_limit_s)
