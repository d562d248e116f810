"""How much memory a computation holds at its worst, counted on any device, meta included."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operations make, until they are freed.

    Attributes:
        now: bytes of those that live.
        peak: the most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation; what it returns on its arguments' own storage is nothing new."""
        given = {id(s) for s in self._storages((args, kwargs))}
        results = func(*args, **kwargs or {})
        for storage in self._storages(results):
            key = id(storage)
            if key not in given and key not in self._known:
                self._known.add(key)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, key, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return results

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    @staticmethod
    def _storages(values: Any) -> list[torch.UntypedStorage]:
        return [t.untyped_storage() for t in tree_leaves(values) if isinstance(t, torch.Tensor)]
