"""Matrix products in the precision of their operands."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import torch


class _Backends:
    """What the process has set, put aside for as long as any thread wants exact products."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[str] = []

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = [backend.fp32_precision for backend in self._all()]
                for backend in self._all():
                    backend.fp32_precision = "ieee"
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                for backend, precision in zip(self._all(), self._before, strict=True):
                    backend.fp32_precision = precision

    @staticmethod
    def _all() -> list[Any]:
        return [attrgetter(name)(torch.backends) for name in ("cuda.matmul", "mkldnn.matmul")]


_backends = _Backends()


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Keep autocast, TF32 and bfloat16 out of matrix products, whatever the caller has set.

    Put around many products, it makes that of each of them cheap. The backends' precision is the
    whole process's, so that until the last thread has left, all its products are exact.
    """
    _backends.enter()
    try:
        if torch.is_autocast_enabled(device.type):
            with torch.autocast(device.type, enabled=False):
                yield
        else:
            yield
    finally:
        _backends.leave()
