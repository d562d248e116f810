"""Small batches on CUDA: their kernels recorded once for each shape, and replayed.

A transformer's step is hundreds of kernels, and so is a way through an autoencoder; where each has
little to do the device waits for the host to launch the next.
"""

import logging
import traceback
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

logger = logging.getLogger(__name__)


class Replayed:
    """A function of tensors that is recorded when it meets shapes for the second time.

    Where there is no memory for a recording, the function itself is called, then and from then on.

    Args:
        call: its result depends on the tensors given to it alone, and it waits for no device.
        most: recordings that are kept, the last ones used.
    """

    def __init__(self, call: Call, most: int = 32, record: Record | None = None) -> None:
        self._call = call
        self._most = most
        self._record = record or CudaRecorder()
        self._met: OrderedDict[Shapes, Call | None] = OrderedDict()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Replayed":
        """Nothing is recorded of a copy: its weights are others."""
        return Replayed(deepcopy(self._call, memo), self._most, deepcopy(self._record, memo))

    def __call__(self, *given: Tensor) -> Tensor:
        """Return ``call(*given)``."""
        shapes = tuple(tensor.shape for tensor in given)
        known = shapes in self._met
        recording = self._met.pop(shapes, None)
        if not known:
            # The first time is the warm-up: libraries choose their kernels.
            result = self._call(*given)
        else:
            recording = recording or self._recorded(given)
            result = recording(*given)
        self._met[shapes] = recording
        if len(self._met) > self._most:
            self._met.popitem(last=False)
        return result

    def _recorded(self, given: tuple[Tensor, ...]) -> Call:
        try:
            return _Recording(self._call, given, self._record)
        except torch.OutOfMemoryError as err:
            # Its frames hold what was made on the way, and the call needs the room.
            traceback.clear_frames(err.__traceback__)
            logger.warning("no memory to record shapes %s: %s", [list(t.shape) for t in given], err)
        return self._call


class CudaRecorder:
    """Records CUDA graphs, which share the memory of what they only need on the way.

    Args:
        reserved_bytes: of that memory, taken at once before the first graph. What comes out of one
            piece holds graphs of any shapes; taken as they come, each shape may need pieces that
            are too small for the next one.
    """

    def __init__(self, reserved_bytes: int = 1) -> None:
        self._reserved_bytes = reserved_bytes
        self._first: torch.cuda.CUDAGraph | None = None

    def __deepcopy__(self, memo: object) -> "CudaRecorder":
        """A copy shares no memory: who replays it may do so at the same time."""
        return CudaRecorder(self._reserved_bytes)

    def __call__(self, call: Call, given: tuple[Tensor, ...]) -> tuple[Callable[[], None], Tensor]:
        with torch.cuda.device(given[0].device):
            # Never replayed: it keeps the memory where all others are forgotten.
            self._first = self._first or _captured(self._reserve)[0]
            graph, result = _captured(lambda: call(*given), self._first.pool())
        return graph.replay, result

    def _reserve(self) -> Tensor:
        # First, for a graph without any kernel is warned of, also where there is no such piece.
        found = torch.zeros(1, device="cuda")
        # Given back to the graphs' memory at once.
        torch.empty(self._reserved_bytes, dtype=torch.uint8, device="cuda")
        return found


def _captured(call: Callable[[], Tensor], pool: Any = None) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the device meanwhile.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        result = call()
    return graph, result


class _Recording:
    # In inference mode, as the networks are compiled: a graph of theirs fits no other tensors.
    @torch.inference_mode()
    def __init__(self, call: Call, given: tuple[Tensor, ...], record: Record) -> None:
        self._given = tuple(tensor.clone() for tensor in given)
        self._replay, self._result = record(call, self._given)

    def __call__(self, *given: Tensor) -> Tensor:
        with torch.inference_mode():
            for own, tensor in zip(self._given, given, strict=True):
                own.copy_(tensor)
            self._replay()
        # The next replay, of any shape, overwrites it.
        return self._result.clone()
