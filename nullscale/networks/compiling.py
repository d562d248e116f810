"""The transformer's blocks compiled, all graphs made before the first request, and none after.

They take any number of rows and tokens in one graph: their matrices do not depend on either, and
small pictures have thousands of shapes. The autoencoder is not compiled: its kernels are our own.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo.config
import torch.fx.experimental._config
from torch._dynamo.exc import TorchDynamoException

from nullscale.networks.checkpoint import one_line
from nullscale.networks.model import SRModel

Backend = str | Callable[..., Any]
"""Of `torch.compile`: its name, or a function of a graph."""

logger = logging.getLogger(__name__)

_sides: Any = torch.fx.experimental._config
_dynamo: Any = torch._dynamo.config

_GRAPHS = 32
"""More than there will be of one function: blocks of three kinds, for one row and for several."""


def compile_networks(model: SRModel, *, backend: Backend = "inductor") -> bool:
    """Compile the transformer's blocks and make every graph; say whether that was possible.

    From then on nothing is compiled in this process: what no graph fits runs eagerly. Where the
    compiler fails, everything does.
    """
    # Of a model before, which would have this one run eagerly.
    torch.compiler.set_stance("default")
    try:
        # Sides that happen to be equal here need not be in a request.
        with (
            torch.inference_mode(),
            _sides.patch(use_duck_shape=False),
            _dynamo.patch(recompile_limit=_GRAPHS),
        ):
            _make_graphs(model, backend)
    except TorchDynamoException as err:
        logger.warning("the transformer runs eagerly, it cannot be compiled: %s", one_line(err))
        torch.compiler.set_stance("force_eager")
        return False
    torch.compiler.set_stance("eager_on_recompile")
    return True


def _make_graphs(model: SRModel, backend: Backend) -> None:
    for block in model.transformer.transformer_blocks:
        block.compile(fullgraph=True, dynamic=True, backend=backend)
    side = model.info.native_px // model.info.vae_factor
    # A single row has a graph of its own.
    for rows in (1, 2):
        latents = torch.zeros(rows, model.info.latent_channels, side, side, device=model.device)
        model.velocity(latents, torch.ones(rows), [model.empty_prompt] * rows)
