"""Small batches on CUDA: their kernels recorded once for each shape, and replayed.

A transformer's step is hundreds of kernels, and where each has little to do the device waits for
the host to launch the next.
"""

from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

Call = Callable[..., Tensor]
Record = Callable[[Call, tuple[Tensor, ...]], tuple[Callable[[], None], Tensor]]
"""Of a call on these very tensors: what does it again, and where its result then is."""

Shapes = tuple[torch.Size, ...]


class Replayed:
    """A function of tensors that is recorded when it meets shapes for the second time.

    Args:
        call: its result depends on the tensors given to it alone, and it waits for no device.
        most: recordings that are kept, the last ones used.
    """

    def __init__(self, call: Call, most: int = 32, record: Record | None = None) -> None:
        self._call = call
        self._most = most
        self._record = record or CudaRecorder()
        self._met: OrderedDict[Shapes, _Recording | None] = OrderedDict()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Replayed":
        """Nothing is recorded of a copy: its weights are others."""
        return Replayed(deepcopy(self._call, memo), self._most)

    def __call__(self, *given: Tensor) -> Tensor:
        """Return ``call(*given)``."""
        shapes = tuple(tensor.shape for tensor in given)
        known = shapes in self._met
        recording = self._met.pop(shapes, None)
        if not known:
            # The first time is the warm-up: libraries choose their kernels.
            result = self._call(*given)
        else:
            recording = recording or _Recording(self._call, given, self._record)
            result = recording(*given)
        self._met[shapes] = recording
        if len(self._met) > self._most:
            self._met.popitem(last=False)
        return result


class CudaRecorder:
    """Records CUDA graphs, which share the memory of what they only need on the way."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, call: Call, given: tuple[Tensor, ...]) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(given[0].device),
            # Other threads may use the device meanwhile.
            torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
        ):
            result = call(*given)
        self._pool = self._pool or graph.pool()
        return graph.replay, result


class _Recording:
    def __init__(self, call: Call, given: tuple[Tensor, ...], record: Record) -> None:
        self._given = tuple(tensor.clone() for tensor in given)
        self._replay, self._result = record(call, self._given)

    def __call__(self, *given: Tensor) -> Tensor:
        for own, tensor in zip(self._given, given, strict=True):
            own.copy_(tensor)
        self._replay()
        # The next replay, of any shape, overwrites it.
        return self._result.clone()
