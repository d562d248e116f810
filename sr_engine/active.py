"""The state of one request under way: its sampler and its open network calls."""

import secrets
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from nullscale.maths.checks import check_picture
from nullscale.maths.ddnm import restore
from nullscale.maths.network_calls import Decode, Denoise, Encode, NetworkCall, Sampler
from nullscale.maths.params import MAX_SEED
from nullscale.maths.problem import pose
from nullscale.maths.tiling import Tile, blend
from nullscale.scheduling.work import Phase
from sr_engine.events import UpscaleResult
from sr_engine.model import Model
from sr_engine.plan import OVERLAP_SHARE, canvas_of, is_flat, sigmas_of, tiles_of
from sr_engine.request import UpscaleRequest
from sr_engine.runner import Row
from sr_engine.timing import on_device

PHASES: dict[type[NetworkCall], Phase] = {
    Denoise: Phase.DENOISE,
    Decode: Phase.DECODE,
    Encode: Phase.ENCODE,
}


@dataclass(slots=True)
class OpenCall:
    """A network call waiting for the results of its tiles."""

    call: NetworkCall
    tiles: tuple[Tile, ...]
    results: list[Tensor | None]


class ActiveRequest:
    """Cuts what one request's sampler asks for into rows, and sends it their results.

    The rows of a stage are the tiles of its first call, then those of its second, if it has one. A
    flat input has no detail to look for: its picture is flat, and there from the start.

    Attributes:
        open_calls: what the sampler waits for.
        steps_done: finished denoising steps, of ``steps``.
        picture: the sampler's result [3, H, W], once it has ended.
        decoded: the last estimate in pixels, on the canvas; None until one was decoded.
    """

    def __init__(self, request: UpscaleRequest, model: Model) -> None:
        params = request.params
        self.request = request
        self.seed = secrets.randbelow(MAX_SEED + 1) if params.seed is None else params.seed
        self.started_s = time.monotonic()
        self.steps = params.denoising_steps
        self.steps_done = 0
        self._steps_begun = 0
        self.picture: Tensor | None = None
        self.decoded: Tensor | None = None
        negative = params.negative_prompt if params.guidance_scale != 1 else ""
        self._prompts = [
            model.encode_prompt(prompt) if prompt else model.empty_prompt
            for prompt in (params.prompt, negative)
        ]
        self._info, device = model.info, model.info.device
        small = torch.from_numpy(request.image.copy()).permute(2, 0, 1).contiguous()
        self._problem = pose(
            on_device(small, device), params.scale, request.downscale, request.degradation
        )
        self._canvas = canvas_of(request, self._info)
        self.open_calls: list[OpenCall] = []
        self._unfinished = 0
        self._sampler: Sampler | None = None
        operator, y = self._problem.operator, self._problem.y
        if is_flat(request):
            self.picture = y[:, :1, :1].expand(-1, *operator.image_size)
            return
        cells = [side // self._info.vae_factor for side in self._canvas.size]
        generator = torch.Generator().manual_seed(self.seed)

        def draw(*shape: int) -> Tensor:
            return on_device(torch.randn(shape, generator=generator), device)

        self._sampler = restore(
            y,
            operator=operator,
            canvas=self._canvas,
            sigmas=sigmas_of(params, self._info),
            draw_noise=partial(draw, self._info.latent_channels, *cells),
            params=params,
            probe=draw(*y.shape) if params.tolerant else None,
        )
        self._open_calls(next(self._sampler))

    def row(self, number: int) -> Row:
        """Return the input of one row of the present stage."""
        opened, index = self._locate(number)
        tile, call = opened.tiles[index], opened.call
        if isinstance(call, Denoise):
            return Row(tile.cut(call.latents), call.sigma, self._prompts[call.negative])
        field = call.latents if isinstance(call, Decode) else call.pixels
        scale = 1 if isinstance(call, Decode) else self._info.vae_factor
        return Row(tile.scaled(scale).cut(field), 0.0, self._prompts[0])

    def complete(self, number: int, result: Tensor) -> None:
        """Take one row's result; after a stage's last the sampler goes on, or ends."""
        opened, index = self._locate(number)
        opened.results[index] = result
        self._unfinished -= 1
        if self._unfinished:
            return
        answers = tuple(self._join(opened) for opened in self.open_calls)
        if self.request.preview_px and isinstance(self.open_calls[0].call, Decode):
            self.decoded = answers[0]
        assert self._sampler is not None
        try:
            calls = self._sampler.send(answers)
        except StopIteration as end:
            self.steps_done = self.steps
            self.picture = end.value
            self.open_calls = []
        else:
            self._open_calls(calls)

    def result(self, arrived_s: float) -> UpscaleResult:
        """Round the picture so that it gives the input back, and report on it.

        Raises:
            InvalidResult: it cannot be the answer to this input.
        """
        assert self.picture is not None
        params, problem = self.request.params, self._problem
        check_picture(self.picture, problem.y, problem.operator, params)
        rounded = problem.round(self.picture, consistent=params.consistent)
        return UpscaleResult(
            request_id=self.request.request_id,
            image=rounded.image.permute(1, 2, 0).contiguous().cpu().numpy(),
            unrounded=self.picture.cpu(),
            seed=self.seed,
            consistency=rounded.consistency,
            queue_s=self.started_s - arrived_s,
            compute_s=time.monotonic() - self.started_s,
        )

    def preview(self) -> UInt8[np.ndarray, "h w 3"] | None:
        """Return the last decoded estimate, its longer side at most ``preview_px``."""
        if self.decoded is None:
            return None
        picture = self._canvas.crop(self.decoded)
        shrink = min(1.0, self.request.preview_px / max(picture.shape[-2:]))
        height, width = (max(1, round(side * shrink)) for side in picture.shape[-2:])
        try:
            small = F.interpolate(picture[None], (height, width), mode="area")[0]
        except torch.OutOfMemoryError:
            return None
        levels = (255 * small).round().clamp(0, 255).to(torch.uint8)
        return levels.permute(1, 2, 0).cpu().numpy()

    def close(self) -> None:
        """Drop the sampler and every tensor it holds."""
        if self._sampler is not None:
            self._sampler.close()
        self.open_calls.clear()

    def _open_calls(self, calls: tuple[NetworkCall, ...]) -> None:
        if isinstance(calls[0], Denoise):
            self.steps_done = self._steps_begun
            self._steps_begun += 1
        self.open_calls = [self._opened(call) for call in calls]
        self._unfinished = sum(len(opened.tiles) for opened in self.open_calls)

    def _opened(self, call: NetworkCall) -> OpenCall:
        phase = PHASES[type(call)]
        tiles = tiles_of(phase, self._canvas, self._info, self.request.tiles)
        return OpenCall(call, tiles, [None] * len(tiles))

    def _locate(self, number: int) -> tuple[OpenCall, int]:
        call, index = divmod(number, len(self.open_calls[0].tiles))
        return self.open_calls[call], index

    def _join(self, opened: OpenCall) -> Tensor:
        """Blend the results of a call's tiles into one field, on the grid the call answers on."""
        scale = self._info.vae_factor if isinstance(opened.call, Decode) else 1
        values = [value for value in opened.results if value is not None]
        tiles = [tile.scaled(scale) for tile in opened.tiles]
        ramp = min(tiles[0].height, tiles[0].width) // OVERLAP_SHARE
        return blend(tiles, values, ramp)
