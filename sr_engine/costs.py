"""What batches cost, learnt from those that ran, and how many rows are worth batching."""

from collections import defaultdict, deque
from collections.abc import Mapping
from statistics import median
from types import MappingProxyType

from sr_engine.scheduler import Kind, Phase

_MEMORY = 9  # batches of a kind and size whose median counts: a first, compiling one does not
_WORTH = 0.8  # a further row must cost less than this share of a row alone
_TRIALS = 3  # batches of a size before it is judged
_GUESS_S = MappingProxyType({Phase.DENOISE: 1e-5, Phase.DECODE: 1e-5, Phase.ENCODE: 5e-6})


class Costs:
    """Seconds of a batch by kind and number of rows, and the number of rows to batch at most.

    A cap starts at one row and doubles while the rows so added cost less than 0.8 of a row alone
    each: on a CPU batching can hurt. Running out of memory halves it for good.

    Args:
        limits: rows that no batch of a phase may exceed, whatever they cost.
        guess_s: seconds a latent cell takes, until anything has been measured.
    """

    def __init__(
        self, limits: Mapping[Phase, int], guess_s: Mapping[Phase, float] = _GUESS_S
    ) -> None:
        self._limits = dict(limits)
        self._guess_s = dict(guess_s)
        self._seen: dict[Kind, dict[int, deque[float]]] = defaultdict(dict)
        self._caps: dict[Kind, int] = {}
        self._row_s: dict[Kind, float] = {}
        self._settled: set[Kind] = set()

    def observe(self, kind: Kind, rows: int, seconds: float) -> None:
        """Take note of a batch that ran."""
        self._seen[kind].setdefault(rows, deque(maxlen=_MEMORY)).append(seconds)
        if rows == self.cap(kind) and kind not in self._settled:
            self._judge(kind, rows)
        self._row_s.clear()

    def out_of_memory(self, kind: Kind, rows: int) -> None:
        """Take note of a batch that did not fit."""
        self._caps[kind] = max(1, min(self.cap(kind), rows // 2))
        self._settled.add(kind)
        self._row_s.clear()

    def cap(self, kind: Kind) -> int:
        """Return how many rows a batch may hold."""
        return self._caps.get(kind, 1)

    def row_s(self, kind: Kind) -> float:
        """Return the seconds of a row in a full batch."""
        if kind not in self._row_s:
            cap = self.cap(kind)
            self._row_s[kind] = self.batch_s(kind, cap) / cap
        return self._row_s[kind]

    def batch_s(self, kind: Kind, rows: int) -> float:
        """Return the expected seconds of a batch.

        A size never seen costs what the nearest one did, row by row; a shape never seen what
        another of its phase did, cell by cell.
        """
        sizes = self._seen.get(kind)
        if not sizes:
            return self._cell_s(kind.phase) * kind.cells * rows
        nearest = min(sizes, key=lambda seen: abs(seen - rows))
        return median(sizes[nearest]) * rows / nearest

    def _cell_s(self, phase: Phase) -> float:
        rates = [
            median(seconds) / (kind.cells * rows)
            for kind, sizes in self._seen.items()
            if kind.phase is phase
            for rows, seconds in sizes.items()
        ]
        return median(rates) if rates else self._guess_s[phase]

    def _judge(self, kind: Kind, rows: int) -> None:
        sizes = self._seen[kind]
        if len(sizes[rows]) < _TRIALS:
            return
        half = rows // 2
        if half in sizes and 1 in sizes:
            added_s = (median(sizes[rows]) - median(sizes[half])) / (rows - half)
            if added_s >= _WORTH * median(sizes[1]):
                self._caps[kind] = half
                self._settled.add(kind)
                return
        if 2 * rows <= self._limits[kind.phase]:
            self._caps[kind] = 2 * rows
        else:
            self._settled.add(kind)
