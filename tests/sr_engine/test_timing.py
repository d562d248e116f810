"""Times from a device that answers late."""

from nullscale.scheduling.work import Kind, Phase
from sr_engine.timing import CudaTimer

KIND = Kind(Phase.DENOISE, 8, 8)


class Stream:
    """Work takes a second an event; ``done`` is how far the device has come."""

    def __init__(self) -> None:
        self.recorded = 0
        self.done = 0
        self.waits = 0

    def Event(self, *, enable_timing: bool) -> "Event":
        assert enable_timing
        return Event()

    def current_stream(self, device: str) -> "Stream":
        assert device == "cuda:1"
        return self


class Event:
    def record(self, stream: Stream) -> None:
        self.stream = stream
        self.stream.recorded += 1
        self.number = self.stream.recorded

    def query(self) -> bool:
        return self.number <= self.stream.done

    def synchronize(self) -> None:
        self.stream.waits += 1
        self.stream.done = max(self.stream.done, self.number)

    def elapsed_time(self, other: "Event") -> float:
        assert other.query(), "the device has not come so far"
        return 1000.0 * (other.number - self.number)


def test_the_host_waits_only_when_too_many_batches_are_on_their_way() -> None:
    stream = Stream()
    timer = CudaTimer("cuda:1", in_flight=2, cuda=stream)
    found = []
    for rows in (1, 2):
        timer.start()
        found.append(timer.stop(KIND, rows))
    assert (found, stream.waits) == ([[], []], 0)
    timer.start()
    assert timer.stop(KIND, 3) == [(KIND, 1, 1.0)]
    assert stream.waits == 1
    stream.done = stream.recorded
    timer.start()
    assert timer.stop(KIND, 4) == [(KIND, 2, 1.0), (KIND, 3, 1.0)]
    assert stream.waits == 1
