"""What the engine is measured against: a loop over requests, and batches of whole requests.

Stock networks, tile after tile, with nothing shared between the steps of different batches: the
oracle for correctness and the baseline for speed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nullscale.maths.ddnm import restore
from nullscale.maths.network_calls import Decode, Denoise, Encode, NetworkCall, Sampler
from nullscale.maths.operators import BicubicDownscale, Canvas
from nullscale.maths.sampling import sigma_schedule
from nullscale.maths.tiling import blend
from nullscale.scheduling.work import Phase, Variant
from sr_engine.model import Model
from sr_engine.plan import OVERLAP_SHARE, tiles_of
from sr_engine.request import UpscaleRequest


def plain_loop(request: UpscaleRequest, model: Model) -> Tensor:
    """Upscale one picture, one tile at a time; return it before range and rounding."""
    return request_batch([request], model)[0]


@torch.inference_mode()
def request_batch(requests: Sequence[UpscaleRequest], model: Model) -> list[Tensor]:
    """Upscale pictures of one size and one set of options together, as `@serve.batch` would.

    All take every step together; one tile of all of them is one network call.
    """
    canvas = _canvas(requests[0], model)
    samplers = [_sampler(request, canvas, model) for request in requests]
    pending = [next(sampler) for sampler in samplers]
    pictures: list[Tensor] = []
    while not pictures:
        columns = [_answer(calls, requests, canvas, model) for calls in zip(*pending, strict=True)]
        pending = []
        for sampler, answers in zip(samplers, zip(*columns, strict=True), strict=True):
            try:
                pending.append(sampler.send(answers))
            except StopIteration as end:
                pictures.append(end.value)
    return pictures


def _canvas(request: UpscaleRequest, model: Model) -> Canvas:
    operator = BicubicDownscale(request.image.shape[:2], request.params.scale)
    return Canvas(operator.image_size, model.info.multiple_px)


def _sampler(request: UpscaleRequest, canvas: Canvas, model: Model) -> Sampler:
    params, info = request.params, model.info
    assert params.seed is not None
    generator = torch.Generator().manual_seed(params.seed)
    shape = [info.latent_channels, *(side // info.vae_factor for side in canvas.size)]
    return restore(
        torch.from_numpy(request.image.copy()).permute(2, 0, 1).to(info.device) / 255,
        operator=BicubicDownscale(request.image.shape[:2], params.scale),
        canvas=canvas,
        sigmas=sigma_schedule(params.num_inference_steps, shift=info.shift, start=params.strength),
        draw_noise=lambda: torch.randn(shape, generator=generator).to(info.device),
        params=params,
    )


def _answer(
    calls: Sequence[NetworkCall], requests: Sequence[UpscaleRequest], canvas: Canvas, model: Model
) -> list[Tensor]:
    """Answer the same call of every sampler, tile by tile."""
    fields = [call.pixels if isinstance(call, Encode) else call.latents for call in calls]
    phase = {Denoise: Phase.DENOISE, Decode: Phase.DECODE, Encode: Phase.ENCODE}[type(calls[0])]
    tiles = tiles_of(phase, canvas, model.info, requests[0].tiles)
    factor = model.info.vae_factor
    found = []
    for tile in tiles:
        cut = tile.scaled(factor if phase is Phase.ENCODE else 1).cut
        found.append(_network(calls, requests, torch.stack([cut(f) for f in fields]), model))
    places = [tile.scaled(factor if phase is Phase.DECODE else 1) for tile in tiles]
    ramp = min(places[0].height, places[0].width) // OVERLAP_SHARE
    return [blend(places, [rows[i] for rows in found], ramp) for i in range(len(calls))]


def _network(
    calls: Sequence[NetworkCall],
    requests: Sequence[UpscaleRequest],
    batch: Tensor,
    model: Model,
) -> Tensor:
    call = calls[0]
    if isinstance(call, Denoise):
        texts = [(r.params.prompt, r.params.negative_prompt)[call.negative] for r in requests]
        prompts = [model.encode_prompt(text) if text else model.empty_prompt for text in texts]
        sigmas = torch.full((len(batch),), call.sigma, device=batch.device)
        return model.velocity(batch, sigmas, prompts)
    network = model.decode if isinstance(call, Decode) else model.encode
    return network(batch, Variant.DRAFT if call.draft else Variant.BASE)
