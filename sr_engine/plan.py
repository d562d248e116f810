"""What a request will ask of the networks, known before it starts."""

from sr_engine.request import UpscaleParams
from sr_engine.scheduler import Kind, Phase, Plan, Stage
from sr_engine.tiling import Tile, cover

OVERLAP_SHARE = 8
"""Neighbouring tiles share at least an eighth of their side."""

VAE_TILE_PX = 512
"""Autoencoder tiles are no smaller: the error of a tiled autoencoder comes from its GroupNorm
statistics, which are the better the larger the tile."""


def tiles_of(
    phase: Phase, cells: tuple[int, int], *, native_px: int, vae_factor: int
) -> tuple[Tile, ...]:
    """Cover a canvas of ``cells`` latent cells by the tiles of a phase.

    Decode and encode share one tiling, so that a round trip through the autoencoder meets the same
    borders both ways.
    """
    side_px = native_px if phase is Phase.DENOISE else max(VAE_TILE_PX, native_px)
    side = side_px // vae_factor
    return cover(*cells, side, side // OVERLAP_SHARE)


def plan(params: UpscaleParams, cells: tuple[int, int], *, native_px: int, vae_factor: int) -> Plan:
    """Return the stages of `sr_engine.ddnm.restore` on a canvas of ``cells`` latent cells."""

    def stage(phase: Phase, calls: int = 1) -> Stage:
        tiles = tiles_of(phase, cells, native_px=native_px, vae_factor=vae_factor)
        kind = Kind(phase, tiles[0].height, tiles[0].width)
        return Stage(kind, calls * len(tiles))

    steps = params.num_inference_steps
    encode, decode = stage(Phase.ENCODE), stage(Phase.DECODE)
    denoise = stage(Phase.DENOISE, 1 if params.guidance_scale == 1 else 2)
    correction = {
        "none": (),
        "latent": (decode, encode),
        "pixel": (decode, encode),
        "residual": (decode, stage(Phase.ENCODE, 2)),
    }[params.projection]
    stages: list[Stage] = []
    if params.strength < 1:
        stages.append(encode)
    if params.projection == "latent" and steps > 1:
        stages.append(encode)
    stages += (steps - 1) * [denoise, *correction]
    return (*stages, denoise, decode)
