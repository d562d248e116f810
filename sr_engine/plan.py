"""What a request will ask of the networks, known before it starts."""

from sr_engine.model import ModelInfo
from sr_engine.operators import BicubicDownscale, Canvas
from sr_engine.request import UpscaleParams, UpscaleRequest
from sr_engine.tiling import Tile, cover
from sr_engine.work import Kind, Phase, Plan, Stage

OVERLAP_SHARE = 8
"""Neighbouring tiles share at least an eighth of their side."""

VAE_TILE_PX = 512
"""Autoencoder tiles are no smaller: the error of a tiled autoencoder comes from its GroupNorm
statistics, which are the better the larger the tile."""


def canvas_of(request: UpscaleRequest, info: ModelInfo) -> Canvas:
    """Return the canvas that a request's picture stands on."""
    operator = BicubicDownscale(request.image.shape[:2], request.params.scale)
    return Canvas(operator.image_size, info.multiple_px)


def tiles_of(phase: Phase, canvas: Canvas, info: ModelInfo) -> tuple[Tile, ...]:
    """Cover a canvas by the tiles of a phase, in latent cells.

    Decode and encode share one tiling, so that a round trip through the autoencoder meets the same
    borders both ways.
    """
    side_px = info.native_px if phase is Phase.DENOISE else max(VAE_TILE_PX, info.native_px)
    side = side_px // info.vae_factor
    height, width = (n // info.vae_factor for n in canvas.size)
    return cover(height, width, side, side // OVERLAP_SHARE)


def plan_stages(params: UpscaleParams, canvas: Canvas, info: ModelInfo) -> Plan:
    """Return the stages of `sr_engine.ddnm.restore` on a canvas, in its order."""

    def stage(phase: Phase, calls: int = 1) -> Stage:
        tiles = tiles_of(phase, canvas, info)
        return Stage(Kind(phase, tiles[0].height, tiles[0].width), calls * len(tiles))

    encode, decode = stage(Phase.ENCODE), stage(Phase.DECODE)
    denoise = stage(Phase.DENOISE, 1 if params.guidance_scale == 1 else 2)
    correction: dict[str, Plan] = {
        "none": (),
        "latent": (decode, encode),
        "pixel": (decode, encode),
        "residual": (decode, stage(Phase.ENCODE, 2)),
    }
    steps = params.num_inference_steps
    beforehand = (params.strength < 1) + (params.projection == "latent" and steps > 1)
    return (
        *beforehand * (encode,),
        *(steps - 1) * (denoise, *correction[params.projection]),
        denoise,
        decode,
    )
