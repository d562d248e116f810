"""What batches cost, learnt from those that ran, and how many rows are worth batching."""

from collections import defaultdict, deque
from collections.abc import Mapping
from statistics import median
from types import MappingProxyType

from nullscale.scheduling.work import Kind, Phase, Variant

_MEMORY = 9  # batches of a kind and size whose median counts: a first, compiling one does not
_WORTH = 0.8  # a further row must cost less than this share of a row alone
_TRIALS = 5  # batches of a size before it is judged, by the fastest: noise only adds time
_AGAIN = 1000  # batches of a kind after which a verdict is reconsidered
_GUESS_S = MappingProxyType({Phase.DENOISE: 1e-5, Phase.DECODE: 1e-5, Phase.ENCODE: 5e-6})

# A 256-channel activation of 1024² reaches 2³¹ elements at eight rows: the autoencoder stays below.
ROW_LIMITS = MappingProxyType({Phase.DENOISE: 16, Phase.DECODE: 4, Phase.ENCODE: 4})


class Costs:
    """Seconds of a batch by kind and number of rows, and the number of rows to batch at most.

    A cap starts at one row and doubles while the rows so added cost less than 0.8 of a row alone
    each: on a CPU batching can hurt. A verdict is reconsidered now and then, but what ran out of
    memory is not tried again.

    Args:
        limits: rows that no batch of a phase may exceed, whatever they cost.
        guess_s: seconds a latent cell takes, until anything has been measured.
    """

    def __init__(
        self, limits: Mapping[Phase, int], guess_s: Mapping[Phase, float] = _GUESS_S
    ) -> None:
        self._limits = dict(limits)
        self._max_rows = max(self._limits.values(), default=1)
        self._guess_s = dict(guess_s)
        self._seen: dict[Kind, dict[int, deque[float]]] = defaultdict(dict)
        self._largest: dict[tuple[Phase, Variant], Kind] = {}
        self._fitting: dict[Kind, int] = {}
        self._caps: dict[Kind, int] = {}
        self._row_s: dict[Kind, float] = {}
        self._settled: dict[Kind, int] = {}

    def observe(self, kind: Kind, rows: int, seconds: float) -> None:
        """Take note of a batch that ran."""
        self._seen[kind].setdefault(rows, deque(maxlen=_MEMORY)).append(seconds)
        family = kind.phase, kind.variant
        if kind.cells >= self._largest.get(family, kind).cells:
            self._largest[family] = kind
        if kind in self._settled:
            self._settled[kind] -= 1
            if self._settled[kind] == 0:
                del self._settled[kind]
        elif rows == self.cap(kind):
            self._judge(kind, rows)
        self._row_s.pop(kind, None)

    def out_of_memory(self, kind: Kind, rows: int) -> None:
        """Take note of a batch that did not fit."""
        self._fitting[kind] = max(1, min(self._fitting.get(kind, rows), rows // 2))
        self._caps[kind] = min(self.cap(kind), self._fitting[kind])
        self._row_s.pop(kind, None)

    def cap(self, kind: Kind) -> int:
        """Return how many rows a batch may hold."""
        return min(self._caps.get(kind, 1), self._max_rows)

    def limit(self, max_rows: int) -> None:
        """Let no batch, whatever its phase, have more rows than this from now on."""
        if max_rows > self._max_rows:
            # Where the former limit was the verdict, there is another one to be found at once.
            self._settled = {
                kind: left
                for kind, left in self._settled.items()
                if 2 * self._caps.get(kind, 1) <= self._max_rows
            }
        self._max_rows = max_rows
        self._row_s.clear()

    def row_s(self, kind: Kind) -> float:
        """Return the seconds of a row in a full batch."""
        known = self._row_s.get(kind)
        if known is not None:
            return known
        cap = self.cap(kind)
        seconds = self.batch_s(kind, cap) / cap
        # What is guessed from another shape changes with that one.
        if kind in self._seen:
            self._row_s[kind] = seconds
        return seconds

    def batch_s(self, kind: Kind, rows: int) -> float:
        """Return the expected seconds of a batch.

        A size never seen costs what the nearest one did, row by row; a shape never seen what the
        largest of its phase did, cell by cell: small ones are dominated by what any call costs.
        """
        sizes = self._seen.get(kind)
        if not sizes:
            return self._cell_s(kind) * kind.cells * rows
        nearest = min(sizes, key=lambda seen: abs(seen - rows))
        return median(sizes[nearest]) * rows / nearest

    def settled(self, kind: Kind) -> bool:
        """Say whether a kind's cap has its verdict."""
        return kind in self._settled

    def measured(self, kind: Kind) -> bool:
        """Say whether batches of this kind have run."""
        return kind in self._seen

    def _cell_s(self, kind: Kind) -> float:
        base = self._largest.get((kind.phase, Variant.BASE))
        largest = self._largest.get((kind.phase, kind.variant), base)
        if largest is None:
            return self._guess_s[kind.phase]
        rows = min(self._seen[largest])
        return median(self._seen[largest][rows]) / (largest.cells * rows)

    def _judge(self, kind: Kind, rows: int) -> None:
        sizes = self._seen[kind]
        if len(sizes[rows]) < _TRIALS:
            return
        half = rows // 2
        if half in sizes and 1 in sizes:
            added_s = (min(sizes[rows]) - min(sizes[half])) / (rows - half)
            if added_s >= _WORTH * min(sizes[1]):
                self._caps[kind] = half
                self._settled[kind] = _AGAIN
                return
        limit = min(self._limits[kind.phase], self._max_rows, self._fitting.get(kind, 2 * rows))
        if 2 * rows <= limit:
            self._caps[kind] = 2 * rows
        else:
            self._settled[kind] = _AGAIN
