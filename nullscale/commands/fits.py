"""`nullscale info --fits`: what a model's weights and rows take, and what fits on which GPU."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table

from nullscale.commands.terminal import NO_MODEL, stop
from nullscale.errors import ModelLoadError
from nullscale.networks import memory
from nullscale.networks.checkpoint import BUNDLED, find_checkpoint
from nullscale.scheduling.costs import ROW_LIMITS
from nullscale.scheduling.work import Phase

if TYPE_CHECKING:
    from nullscale.networks.published import Architecture

CONFIGURATIONS = ("transformer/config.json", "vae/config.json")
GB = 1e9
ASSUMPTIONS = (
    "Estimates, of the stock networks run eagerly in bfloat16. Under a GPU's size: rows of a batch "
    "of native tiles (velocity, decode, encode), and megapixels of output that may be under way "
    "(max_active_pixels); a batch gets half of what weights, conditioning and graphs leave. – is "
    "no room for a row."
)


def print_fits(model: str) -> None:
    """Print the published sizes of SD3.5, and those of ``model`` unless it is the bundled one."""
    # Takes seconds, and other commands need it not.
    from nullscale.networks.published import PUBLISHED, read_architecture

    given: dict[str, Architecture] = dict(PUBLISHED)
    if model != BUNDLED:
        try:
            folder = find_checkpoint(model, CONFIGURATIONS)
            given[model] = read_architecture(folder)
        except ModelLoadError as err:
            stop(str(err), NO_MODEL)
    console = Console()
    for name, architecture in given.items():
        console.print(_table(name, architecture))
    console.print(ASSUMPTIONS)


def kept_bytes(
    transformer: Any, vae: Any, row: Mapping[Phase, int], *, tokens: int, quantize: str | None
) -> int:
    """Bytes that the table of conditioning and recorded graphs come to hold beside the weights.

    Quantised transformers have neither; the autoencoder is recorded all the same.

    Args:
        row: bytes of one of a native tile, by phase; of the transformer's graphs those take the
            most that have the most tokens.
        tokens: of a prompt.
    """
    from nullscale.networks.autoencoder import REPLAYED_PIXELS, Autoencoder
    from nullscale.networks.fast_transformer import REPLAYED_TOKENS, TABLE_BYTES

    kept = Autoencoder(vae, fast=False).row_bytes(REPLAYED_PIXELS)
    if quantize is not None:
        return kept
    config = transformer.config
    native: int = (config.sample_size // config.patch_size) ** 2 + tokens
    return kept + TABLE_BYTES + row[Phase.DENOISE] * REPLAYED_TOKENS // native


def _table(name: str, architecture: "Architecture") -> Table:
    from nullscale.networks.published import PUBLISHED, TEXT_ENCODER_PARAMETERS, TOKENS

    dtype = torch.bfloat16
    transformer, vae = architecture.on_meta(dtype)
    native_px = transformer.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1)
    shallow, _ = architecture.shallow().on_meta(dtype)
    rows = {
        side: memory.row_bytes(shallow, vae, side, tokens=TOKENS)
        for side in (native_px, native_px // 2)
    }
    texts = dtype.itemsize * sum(TEXT_ENCODER_PARAMETERS.values()) if name in PUBLISHED else 0
    told = "; ".join(
        f"a row of {side} px: "
        + ", ".join(f"{_network(phase)} {size / GB:.2f}" for phase, size in one.items())
        for side, one in rows.items()
    )
    kept = {
        quantize: kept_bytes(transformer, vae, rows[native_px], tokens=TOKENS, quantize=quantize)
        for quantize in (None, *memory.QUANTIZATIONS)
    }
    told += f"; conditioning and graphs keep {kept[None] / GB:.2f}"
    table = Table(
        "weights",
        "GB",
        *(f"{size} GB" for size in memory.GPU_GB),
        title=f"{name}: {told} GB",
        title_justify="left",
    )
    decoder = memory.memory_estimate(vae, dtype=dtype)
    for quantize in (None, *reversed(memory.QUANTIZATIONS)):
        weights = decoder + memory.quantized_estimate(transformer, dtype, quantize)
        for added, what in ((0, ""), (texts, ", with prompts")):
            if what and not texts:
                continue
            fits = [
                memory.fit(
                    size * 10**9,
                    weights + added + kept[quantize],
                    rows[native_px],
                    ROW_LIMITS,
                    least_pixels=native_px**2,
                )
                for size in memory.GPU_GB
            ]
            cells = [_cell(found) for found in fits]
            label = f"{quantize or 'bfloat16'}{what}"
            table.add_row(label, f"{(weights + added) / GB:.1f}", *cells)
    return table


def _cell(found: memory.Fit | None) -> str:
    if found is None:
        return "–"
    return f"{' '.join(str(n) for n in found.rows.values())}, {found.megapixels:.0f} MP"


def _network(phase: Phase) -> str:
    return "velocity" if phase is Phase.DENOISE else phase.value
