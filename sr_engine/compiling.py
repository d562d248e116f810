"""Compiled networks, all graphs made before the first request, and none after.

- The transformer's blocks take any number of rows and tokens in one graph: their matrices do not
  depend on either, and small pictures have thousands of shapes.
- The autoencoder is compiled for its full tile, at 1, 2, 4 rows: convolutions lose their layout in
  graphs of any size. Tiles of smaller pictures go through it eagerly; they are cheap.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
import torch._dynamo.config
import torch.fx.experimental._config
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from sr_engine.autoencoder import Autoencoder
from sr_engine.checkpoint import one_line
from sr_engine.costs import ROW_LIMITS
from sr_engine.model import SRModel
from sr_engine.plan import VAE_TILE_PX
from sr_engine.work import Phase, Variant

Backend = str | Callable[..., Any]
"""Of `torch.compile`: its name, or a function of a graph."""

logger = logging.getLogger(__name__)

_sides: Any = torch.fx.experimental._config
_dynamo: Any = torch._dynamo.config

_GRAPHS = 32
"""More than there will be of one function: blocks of three kinds, for one row and for several."""


class FullTiles(nn.Module):
    """A network in eager mode, and compiled for the batches of one tile that it was warmed for.

    A larger batch runs in parts: at full tiles rows gain next to nothing by each other. A copy is
    the network alone.

    Attributes:
        shape: of the tile, [c, h, w].
        rungs: batch sizes with a graph, ascending.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, int, int], backend: Backend) -> None:
        super().__init__()
        self.network = network
        self.shape = shape
        self.rungs: list[int] = []
        # Of the function, not of the module: that would be registered, and saved, twice.
        self._compiled = torch.compile(
            network.forward, fullgraph=True, dynamic=False, backend=backend
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        return deepcopy(self.network, memo)

    def forward(self, batch: Tensor) -> Tensor:
        """Run a batch of tiles."""
        if batch.shape[1:] != self.shape or not self.rungs:
            result: Tensor = self.network(batch)
            return result
        # Graphs are of one layout, and tiles are cut out of anything.
        batch = batch.contiguous(memory_format=torch.channels_last)
        sizes = list(parts_of(len(batch), self.rungs))
        results = [self._compiled(part) for part in torch.split(batch, sizes)]
        return results[0] if len(results) == 1 else torch.cat(results)


def compile_networks(
    model: SRModel, *, limits: Mapping[Phase, int] = ROW_LIMITS, backend: Backend = "inductor"
) -> bool:
    """Compile the networks and make every graph; say whether that was possible.

    From then on nothing is compiled in this process: what no graph fits runs eagerly. Where the
    compiler fails, everything does.

    limits: rows that no batch of a phase exceeds.
    """
    try:
        # Sides that happen to be equal here need not be in a request.
        with (
            torch.inference_mode(),
            _sides.patch(use_duck_shape=False),
            _dynamo.patch(recompile_limit=_GRAPHS),
        ):
            _compile_transformer(model, backend)
            for variant in (Variant.BASE, *([Variant.DRAFT] if model.info.draft else [])):
                _compile_autoencoder(model, variant, limits, backend)
    except TorchDynamoException as err:
        logger.warning("the networks run eagerly, they cannot be compiled: %s", one_line(err))
        torch.compiler.set_stance("force_eager")
        return False
    torch.compiler.set_stance("eager_on_recompile")
    return True


def parts_of(rows: int, rungs: Sequence[int]) -> Iterator[int]:
    """Cut `rows` into as few `rungs` (ascending, the first 1) as they take, largest first."""
    for rung in reversed(rungs):
        while rows >= rung:
            yield rung
            rows -= rung


def _compile_transformer(model: SRModel, backend: Backend) -> None:
    for block in model.transformer.transformer_blocks:
        block.compile(fullgraph=True, dynamic=True, backend=backend)
    side = model.info.native_px // model.info.vae_factor
    # A single row has a graph of its own.
    for rows in (1, 2):
        latents = torch.zeros(rows, model.info.latent_channels, side, side, device=model.device)
        model.velocity(latents, torch.ones(rows), [model.empty_prompt] * rows)


def _compile_autoencoder(
    model: SRModel, variant: Variant, limits: Mapping[Phase, int], backend: Backend
) -> None:
    autoencoder: Autoencoder = model.autoencoder_of(variant)
    network, factor = autoencoder.network, autoencoder.factor
    side = max(VAE_TILE_PX, model.info.native_px) // factor
    network.decoder = FullTiles(network.decoder, (autoencoder.latent_channels, side, side), backend)
    network.encoder = FullTiles(network.encoder, (3, factor * side, factor * side), backend)
    _warm(network.decoder, autoencoder.decode, limits[Phase.DECODE], model.device)
    _warm(network.encoder, autoencoder.encode, limits[Phase.ENCODE], model.device)


def _warm(
    tiles: FullTiles, run: Callable[[Tensor], Tensor], limit: int, device: torch.device
) -> None:
    rows = 1
    while rows <= limit:
        tiles.rungs.append(rows)
        try:
            run(torch.zeros(rows, *tiles.shape, device=device))
        except torch.OutOfMemoryError:
            tiles.rungs.remove(rows)
            logger.warning("no memory for %d tiles at once: larger batches run in parts", rows)
            break
        rows *= 2
