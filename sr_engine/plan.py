"""What a request will ask of the networks, known before it starts."""

from dataclasses import replace

from nullscale.maths.ddnm import projecting_steps
from nullscale.maths.operators import BicubicDownscale, Canvas
from nullscale.maths.params import UpscaleParams
from nullscale.maths.sampling import sigma_schedule, time_travel
from nullscale.maths.tiling import Tile, cover
from nullscale.scheduling.work import UNLIMITED, Kind, Phase, Plan, Stage, TileLimits, Variant
from sr_engine.model import ModelInfo
from sr_engine.request import UpscaleRequest

BYTES_A_PIXEL = 256
"""What a request holds while it is active, per pixel of its output, at the most."""

OVERLAP_SHARE = 8
"""Neighbouring tiles share at least an eighth of their side."""

VAE_TILE_PX = 512
"""Autoencoder tiles are no smaller: the error of a tiled autoencoder comes from its GroupNorm
statistics, which are the better the larger the tile."""

SIDE_STEPS = 16
"""Steps that the longest side is shortened by, where a picture is larger than one tile: a few fixed
shapes, which the tiles of other pictures share a batch with."""

SMALLEST_SHARE = 4
"""Where memory is short, tiles shrink to no less than a quarter of their side: below, the denoiser
no longer sees what it paints."""


def canvas_of(request: UpscaleRequest, info: ModelInfo) -> Canvas:
    """Return the canvas that a request's picture stands on."""
    operator = BicubicDownscale(request.image.shape[:2], request.params.scale)
    return Canvas(operator.image_size, info.multiple_px)


def is_flat(request: UpscaleRequest) -> bool:
    """Say whether a request needs no network: one colour all over stays that colour."""
    image = request.image
    if request.degradation is not None:
        return False
    return request.params.projection != "none" and bool((image == image[:1, :1]).all())


def sigmas_of(params: UpscaleParams, info: ModelInfo) -> tuple[float, ...]:
    """Return the noise levels of a request's run, in the order of visiting them."""
    levels = sigma_schedule(
        params.num_inference_steps,
        shift=info.shift,
        start=params.strength,
        spacing=params.sigma_spacing,
    )
    return time_travel(levels, params.travel_length, params.travel_repeats)


def tiles_of(
    phase: Phase, canvas: Canvas, info: ModelInfo, limits: TileLimits = UNLIMITED
) -> tuple[Tile, ...]:
    """Cover a canvas by the tiles of a phase, in latent cells.

    Decode and encode share one tiling, so that a round trip through the autoencoder meets the same
    borders both ways.
    """
    limit_px = limits.denoise_px if phase is Phase.DENOISE else limits.vae_px
    side_px = _side_px(phase, info)
    side = min(side_px, limit_px or side_px) // info.vae_factor
    height, width = (n // info.vae_factor for n in canvas.size)
    patch = info.multiple_px // info.vae_factor
    # Where memory is short they are as long as what there is room for.
    multiple = side if limit_px else patch * max(side // (SIDE_STEPS * patch), 1)
    return cover(height, width, side, side // OVERLAP_SHARE, multiple)


def smaller_tiles(kind: Kind, info: ModelInfo, limits: TileLimits) -> TileLimits | None:
    """Return limits below the tiles that a row of `kind` was of; None where they are the least.

    The longest side of that network is halved until it is. The other network keeps its own: each
    gives the better pictures the larger its tiles are.
    """
    longest_px = limit_px = _side_px(kind.phase, info)
    while limit_px >= max(kind.height, kind.width) * info.vae_factor:
        limit_px = limit_px // 2 // info.multiple_px * info.multiple_px
    if SMALLEST_SHARE * limit_px < longest_px:
        return None
    if kind.phase is Phase.DENOISE:
        return replace(limits, denoise_px=limit_px)
    return replace(limits, vae_px=limit_px)


def plan_stages(request: UpscaleRequest, info: ModelInfo, variant: Variant = Variant.BASE) -> Plan:
    """Return the stages of `nullscale.maths.ddnm.restore` on a request's canvas, in its order.

    A draft is no variant of float32: made again, a picture is made with the whole networks.
    """
    if is_flat(request):
        return ()
    params, canvas = request.params, canvas_of(request, info)

    def stage(phase: Phase, which: Variant, calls: int = 1) -> Stage:
        tiles = tiles_of(phase, canvas, info, request.tiles)
        return Stage(Kind(phase, tiles[0].height, tiles[0].width, which), calls * len(tiles))

    which = Variant.DRAFT if params.draft and variant is Variant.BASE else variant
    denoise = stage(Phase.DENOISE, variant, 1 if params.guidance_scale == 1 else 2)
    encodings = 2 if params.projection == "residual" else 1
    projecting = projecting_steps(sigmas_of(params, info), params)
    plan: list[Stage] = []
    if params.tolerant:
        plan.append(stage(Phase.ENCODE, which, 2))
    if params.strength < 1:
        plan.append(stage(Phase.ENCODE, variant))
    pinv_known = set[Variant]()
    for number, projects in enumerate(projecting, start=1):
        plan.append(denoise)
        if not projects:
            continue
        # The last step is the whole autoencoder's.
        by = which if number < len(projecting) else variant
        if params.projection == "latent" and by not in pinv_known:
            pinv_known.add(by)
            plan.append(stage(Phase.ENCODE, by))
        plan += (stage(Phase.DECODE, by), stage(Phase.ENCODE, by, encodings))
    return (*plan, stage(Phase.DECODE, variant))


def _side_px(phase: Phase, info: ModelInfo) -> int:
    return info.native_px if phase is Phase.DENOISE else max(VAE_TILE_PX, info.native_px)
