"""Metrics inside replicas: Ray's own instruments, exported with Serve's, and what HTTP counts."""

from collections.abc import Sequence

from ray.serve.metrics import Counter, Gauge, Histogram

from deployments.messages import Order
from deployments.pictures import Picture, promise_of
from sr_engine.metrics import Record, Recorder, forgiving

# From a probe to the longest picture; Serve's own jump from 10 s to 60 s.
REQUEST_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5, 10, 15, 20, 30, 45, 60),
    *(90, 120, 180, 300, 450, 600),
)
# From a thumbnail's decoding to the longest picture's steps.
PART_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Turned away, as opposed to failed: unauthorised, too slow, too large, too many, no room.
REFUSED = frozenset({401, 408, 413, 429, 503})


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


RETRIES = "nullscale_retries_total", "Pictures sent to another replica after one was lost"


class WorkMetrics:
    """Instruments of the work that one process has sent out; sums over processes are the whole."""

    def __init__(self, recorder: Recorder) -> None:
        counter, gauge = forgiving(recorder.counter), forgiving(recorder.gauge)
        self._outstanding_s = 0.0
        self._wait_s: float | None = None
        self._outstanding = gauge(
            "nullscale_outstanding_work_seconds", "Engine seconds of all pictures that are out"
        )
        self._wait = gauge(
            "nullscale_predicted_wait_seconds", "Until all pictures that are out will be back"
        )
        self._arrived = counter(
            "nullscale_arrived_work_seconds_total", "Engine seconds of all pictures that came"
        )

    def arrived(self, seconds: float) -> None:
        """Take note of work that has come, be it taken or refused."""
        self._arrived(seconds)

    def stands(self, outstanding_s: float, wait_s: float | None = None) -> None:
        """Take note of what is out now; the jobs' owner does not know how long that takes."""
        self._outstanding_s, self._wait_s = outstanding_s, wait_s
        self.refresh()

    def refresh(self) -> None:
        """Say the gauges again."""
        self._outstanding(self._outstanding_s)
        if self._wait_s is not None:
            self._wait(self._wait_s)


class PictureMetrics:
    """What is known of a picture once it is encoded, wherever that is done."""

    def __init__(self, recorder: Recorder) -> None:
        self._seconds = forgiving(recorder.histogram)(
            "nullscale_picture_seconds", "Parts of a picture's time", PART_SECONDS, ["part"]
        )
        self._pictures = forgiving(recorder.counter)(
            "nullscale_pictures_total",
            "Encoded pictures, by what becomes of them when they are scaled down",
            ["consistency"],
        )

    def made(self, order: Order, picture: Picture) -> None:
        """Take note of an encoded picture."""
        for part, milliseconds in picture.timings:
            self._seconds(milliseconds / 1e3, part=part)
        self._pictures(1, consistency=promise_of(order, picture.consistency))


class HttpMetrics:
    """An ingress replica's instruments; labels are templates and codes, never what clients send."""

    def __init__(self, recorder: Recorder) -> None:
        self.pictures = PictureMetrics(recorder)
        counter, gauge = forgiving(recorder.counter), forgiving(recorder.gauge)
        histogram = forgiving(recorder.histogram)
        self.work = WorkMetrics(recorder)
        self._in_flight = 0
        self._requests = counter(
            "nullscale_http_requests_total",
            "Requests that ended",
            ["route", "method", "status", "code"],
        )
        self._duration = histogram(
            "nullscale_http_request_seconds",
            "From a request's headers to the end of its answer",
            REQUEST_SECONDS,
            ["route", "status"],
        )
        self._in_flight_now = gauge("nullscale_http_in_flight", "Requests without a full answer")
        self._retries = counter(*RETRIES)
        self._refused = counter("nullscale_refused_total", "Requests turned away", ["code"])

    def started(self) -> None:
        """Take note of a request that has come."""
        self._in_flight += 1
        self.refresh()

    def ended(self, *, route: str, method: str, status: int, code: str, seconds: float) -> None:
        """Take note of a request's end; ``route`` is the template."""
        self._in_flight -= 1
        self.refresh()
        method = method if method in METHODS else "other"
        self._requests(1, route=route, method=method, status=str(status), code=code)
        self._duration(seconds, route=route, status=str(status))
        if status in REFUSED:
            self._refused(1, code=code)

    def retried(self) -> None:
        """Take note of a picture that goes to another replica."""
        self._retries(1)

    def refresh(self) -> None:
        """Say the gauges again: Ray drops what has not been set for some twenty seconds."""
        self._in_flight_now(self._in_flight)
        self.work.refresh()


class JobMetrics:
    """The instruments of the jobs' owner."""

    def __init__(self, recorder: Recorder) -> None:
        self.pictures = PictureMetrics(recorder)
        counter = forgiving(recorder.counter)
        self.work = WorkMetrics(recorder)
        self._unfinished = {"queued": 0, "running": 0}
        self._jobs = counter("nullscale_jobs_total", "Jobs that ended", ["state", "code"])
        self._unfinished_now = forgiving(recorder.gauge)(
            "nullscale_unfinished_jobs", "Jobs that have not ended", ["state"]
        )
        self._retries = counter(*RETRIES)

    def unfinished(self, *, queued: int, running: int) -> None:
        """Take note of the jobs that wait here, and of those that are with the workers."""
        self._unfinished = {"queued": queued, "running": running}
        self.refresh()

    def ended(self, state: str, code: str) -> None:
        """Take note of a job's end; ``code`` is its problem's, or "ok"."""
        self._jobs(1, state=state, code=code)

    def retried(self) -> None:
        """Take note of a picture that goes to another replica."""
        self._retries(1)

    def refresh(self) -> None:
        """Say the gauges again: Ray drops what has not been set for some twenty seconds."""
        for state, number in self._unfinished.items():
            self._unfinished_now(number, state=state)
        self.work.refresh()
