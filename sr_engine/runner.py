"""Runs batches of tiles through the model: the one place where tensors of requests meet."""

import logging
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nullscale.scheduling.costs import Costs
from nullscale.scheduling.work import Kind, Phase
from sr_engine.failures import REQUEST_ERRORS
from sr_engine.metrics import Metrics
from sr_engine.model import Model, PromptEmbeddings
from sr_engine.timing import Measured, Timer, timer_for

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """The input of one tile; ``sigma`` and ``prompt`` are read by `Phase.DENOISE` alone."""

    value: Float[Tensor, "c h w"]
    sigma: float
    prompt: PromptEmbeddings


class Runner:
    """Holds the model, and measures what its batches cost.

    Attributes:
        seconds: in the networks, by phase.
        costs: what it has measured.
    """

    def __init__(
        self, model: Model, costs: Costs, metrics: Metrics, timer: Timer | None = None
    ) -> None:
        self.model = model
        self._metrics = metrics
        self.seconds = dict.fromkeys(Phase, 0.0)
        self.costs = costs
        self._timer = timer or timer_for(model.info.device)

    def run(self, kind: Kind, rows: Sequence[Row]) -> list[Float[Tensor, "c h w"]]:
        """Return each row's result; a batch that does not fit in memory is split and retried.

        Raises:
            torch.OutOfMemoryError: a single row does not fit.
        """
        try:
            self._timer.start()
            results = self._call(kind, rows)
            self._observe(self._timer.stop(kind, len(rows)))
            return list(results.unbind(0))
        except torch.OutOfMemoryError:
            self._metrics.out_of_memory(kind)
            if len(rows) == 1:
                raise
        self.costs.out_of_memory(kind, len(rows))
        # Not in the handler: there, the error's traceback keeps the failed batch alive.
        logger.warning("out of memory at %s of %d rows: split", kind.phase.value, len(rows))
        torch.cuda.empty_cache()
        half = len(rows) // 2
        return self.run(kind, rows[:half]) + self.run(kind, rows[half:])

    def outcomes(
        self, kind: Kind, rows: Sequence[Row]
    ) -> Sequence[Float[Tensor, "c h w"] | Exception]:
        """Run rows; where they fail together, each alone, so that only a bad one fails.

        Raises:
            torch.AcceleratorError: the device is lost, and with it every row to come.
        """
        try:
            return self.run(kind, rows)
        except torch.AcceleratorError:
            raise
        except REQUEST_ERRORS as err:
            # Its frames hold the network's tensors, and the other rows need the room.
            traceback.clear_frames(err.__traceback__)
            if len(rows) == 1:
                return [err]
            logger.warning("a batch of %d rows failed (%s): one at a time", len(rows), err)
        return [outcome for row in rows for outcome in self.outcomes(kind, [row])]

    def _call(self, kind: Kind, rows: Sequence[Row]) -> Tensor:
        batch = torch.stack([row.value for row in rows])
        if kind.phase is Phase.DENOISE:
            # On the host: the model looks up what it knows of them.
            sigmas = torch.tensor([row.sigma for row in rows])
            return self.model.velocity(batch, sigmas, [row.prompt for row in rows], kind.variant)
        network = self.model.decode if kind.phase is Phase.DECODE else self.model.encode
        return network(batch, kind.variant)

    def _observe(self, batches: Iterable[Measured]) -> None:
        for kind, rows, seconds in batches:
            self.seconds[kind.phase] += seconds
            self.costs.observe(kind, rows, seconds)
            self._metrics.batch(kind, rows, seconds)
