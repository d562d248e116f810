"""Finds before the first request how many rows of a batch pay and fit, by running such batches."""

import logging
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nullscale.scheduling.work import Kind, Phase, Variant
from sr_engine.failures import REQUEST_ERRORS
from sr_engine.model import Model, ModelInfo
from sr_engine.plan import BYTES_A_PIXEL, VAE_TILE_PX
from sr_engine.runner import Row, Runner

logger = logging.getLogger(__name__)


def native_kinds(info: ModelInfo) -> list[Kind]:
    """What a picture as large as a model's own tiles asks for."""
    tile = info.native_px // info.vae_factor
    large = max(VAE_TILE_PX, info.native_px) // info.vae_factor
    kinds = [Kind(Phase.DENOISE, tile, tile)]
    for variant in (Variant.BASE, Variant.DRAFT) if info.draft else (Variant.BASE,):
        kinds += [Kind(phase, large, large, variant) for phase in (Phase.DECODE, Phase.ENCODE)]
    return kinds


def settle_caps(
    runner: Runner,
    budget_s: float,
    *,
    pictures: int = 8,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Kind, int]:
    """Run batches of growing size of the native tiles until each cap has its verdict.

    The verdict is that of the runner's costs, by measured time, and what does not fit beside
    ``pictures`` of native size lowers it. The kinds take turns, so that a budget too short for all
    leaves none out.

    Args:
        runner: not the engine's own: none of this belongs into a client's metrics.

    Returns:
        The caps, settled or not.
    """
    costs, info, until_s = runner.costs, runner.model.info, clock() + budget_s
    rows = {kind: _row(kind, runner.model) for kind in native_kinds(info)}
    held = _held(info, pictures * info.native_px**2 * BYTES_A_PIXEL)
    failing: set[Kind] = set()
    for kind in _in_turns(list(rows), lambda kind: costs.settled(kind) or kind in failing):
        if clock() >= until_s:
            break
        count = costs.cap(kind)
        try:
            with torch.inference_mode():
                runner.run(kind, [rows[kind]] * count)
        except torch.AcceleratorError:
            raise
        except REQUEST_ERRORS as err:
            logger.warning("a batch of %d rows of %s: %s", count, kind.phase.value, err)
            costs.out_of_memory(kind, count)
            if count == 1 and held is None:
                failing.add(kind)
            held = None
    del held
    if info.device.startswith("cuda"):
        torch.cuda.empty_cache()
    caps = {kind: costs.cap(kind) for kind in rows}
    logger.info("rows of a batch: %s", ", ".join(f"{k.phase.value} {n}" for k, n in caps.items()))
    return caps


def _in_turns(kinds: list[Kind], done: Callable[[Kind], bool]) -> Iterator[Kind]:
    while left := [kind for kind in kinds if not done(kind)]:
        yield from left


def _row(kind: Kind, model: Model) -> Row:
    info, encode = model.info, kind.phase is Phase.ENCODE
    factor, channels = (info.vae_factor, 3) if encode else (1, info.latent_channels)
    shape = channels, factor * kind.height, factor * kind.width
    # Not zeros: a GPU is faster on those than on pictures.
    value = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return Row(value.to(info.device), 0.5, model.empty_prompt)


def _held(info: ModelInfo, size: int) -> Tensor | None:
    """Take the memory that pictures under way will need; a CPU's is not what limits a batch."""
    if not info.device.startswith("cuda"):
        return None
    try:
        return torch.empty(size, dtype=torch.uint8, device=info.device)
    except torch.OutOfMemoryError:
        return None
