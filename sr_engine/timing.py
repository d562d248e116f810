"""What batches took on a device, without waiting for it."""

import time
from collections import deque
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from nullscale.scheduling.work import Kind

Measured = tuple[Kind, int, float]
"""A batch's kind, its rows and its seconds."""


@runtime_checkable
class Timer(Protocol):
    """Takes the time of one batch after the other."""

    def start(self) -> None:
        """Begin with a batch."""

    def stop(self, kind: Kind, rows: int) -> list[Measured]:
        """End it; return the batches whose times have become known."""


class HostTimer:
    """For devices that have done the work when the call returns."""

    def start(self) -> None:
        """Begin with a batch."""
        self._started = time.perf_counter()

    def stop(self, kind: Kind, rows: int) -> list[Measured]:
        """End it, and return it."""
        return [(kind, rows, time.perf_counter() - self._started)]


class CudaTimer:
    """Between events on the stream: the host prepares the next batch while the device works.

    At most ``in_flight`` batches are on their way, so that a cancelled request leaves soon.
    """

    def __init__(self, device: str, in_flight: int = 2, cuda: Any = torch.cuda) -> None:
        self._device = device
        self._in_flight = in_flight
        self._cuda = cuda
        self._pending: deque[tuple[Kind, int, Any, Any]] = deque()

    def start(self) -> None:
        """Mark the beginning of a batch on the stream."""
        self._started = self._mark()

    def stop(self, kind: Kind, rows: int) -> list[Measured]:
        """Mark its end; wait only where too many are on their way."""
        self._pending.append((kind, rows, self._started, self._mark()))
        measured: list[Measured] = []
        while self._pending:
            first, count, started, last = self._pending[0]
            if not last.query():
                if len(self._pending) <= self._in_flight:
                    break
                last.synchronize()
            self._pending.popleft()
            measured.append((first, count, started.elapsed_time(last) / 1000))
        return measured

    def _mark(self) -> Any:
        event = self._cuda.Event(enable_timing=True)
        # Not the current device's: the model may be on another.
        event.record(self._cuda.current_stream(self._device))
        return event


def timer_for(device: str) -> Timer:
    """Return the timer of a device."""
    return CudaTimer(device) if device.startswith("cuda") else HostTimer()


def on_device(tensor: Tensor, device: str) -> Tensor:
    """Copy from the host without waiting for what the device does."""
    if device.startswith("cuda"):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
