"""Matrix products in the precision of their operands."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter

import torch


class _Here(threading.local):
    """The kind of device that this thread's products are exact on already."""

    device: str | None = None


_here = _Here()


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Keep autocast, TF32 and bfloat16 out of matrix products, whatever the caller has set.

    Many products in a row have it around all of them: once inside, a further one costs nothing.
    """
    if _here.device == device.type:
        yield
        return
    backends = [attrgetter(name)(torch.backends) for name in ("cuda.matmul", "mkldnn.matmul")]
    before, outside = [backend.fp32_precision for backend in backends], _here.device
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        _here.device = device.type
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        _here.device = outside
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
