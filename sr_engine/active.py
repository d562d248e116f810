"""The state of one request under way: its sampler, its open network calls and their tiles."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from sr_engine.ddnm import Decode, Denoise, Encode, NetworkCall, restore
from sr_engine.errors import InvalidResult
from sr_engine.operators import BicubicDownscale, Canvas
from sr_engine.prompts import PromptEmbeddings
from sr_engine.request import Consistency, UpscaleRequest, UpscaleResult
from sr_engine.rounding import RoundedImage, round_consistently, round_plainly
from sr_engine.runner import Model, Row
from sr_engine.sampling import sigma_schedule
from sr_engine.scheduler import Phase, TileTask
from sr_engine.tiling import Tile, blend, cover

PHASES: dict[type[NetworkCall], Phase] = {
    Denoise: Phase.DENOISE,
    Decode: Phase.DECODE,
    Encode: Phase.ENCODE,
}

OVERLAP_SHARE = 8
"""Neighbouring tiles share at least an eighth of their side."""

VAE_TILE_PX = 512
"""Autoencoder tiles are no smaller: the error of a tiled autoencoder comes from its GroupNorm
statistics, which are the better the larger the tile."""


@dataclass(slots=True)
class OpenCall:
    """A network call waiting for the results of its tiles."""

    call: NetworkCall
    tiles: tuple[Tile, ...]
    results: list[Tensor | None]


class ActiveRequest:
    """Turns one request's sampler into tiles to run, and the tiles' results into its next calls.

    Attributes:
        tasks: the tiles of the calls now open, to be handed to the scheduler.
        steps_done: finished denoising steps, of ``steps``.
        picture: the sampler's result [3, H, W], once it has ended.
    """

    def __init__(
        self,
        request: UpscaleRequest,
        model: Model,
        prompts: tuple[PromptEmbeddings, PromptEmbeddings],
        seed: int,
    ) -> None:
        self.request = request
        self.seed = seed
        self.started_s = time.monotonic()
        self.steps = request.params.num_inference_steps
        self.steps_done = 0
        self._steps_begun = 0
        self.picture: Tensor | None = None
        self._prompts = prompts
        self._info = model.info
        self._y = torch.from_numpy(request.image.copy()).permute(2, 0, 1).to(model.info.device)
        self._operator = BicubicDownscale(request.image.shape[:2], request.params.scale)
        canvas = Canvas(self._operator.image_size, model.info.multiple_px)
        height, width = canvas.size
        self._cells = height // model.info.vae_factor, width // model.info.vae_factor
        generator = torch.Generator().manual_seed(seed)

        def draw_noise() -> Tensor:
            noise = torch.randn(model.info.latent_channels, *self._cells, generator=generator)
            return noise.to(self._y.device)

        self._sampler = restore(
            self._y / 255,
            operator=self._operator,
            canvas=canvas,
            sigmas=sigma_schedule(
                request.params.num_inference_steps,
                shift=model.shift,
                start=request.params.strength,
            ),
            draw_noise=draw_noise,
            params=request.params,
        )
        self._open: list[OpenCall] = []
        self._unfinished = 0
        self.tasks: list[TileTask] = []
        self._open_calls(next(self._sampler))

    def row(self, task: TileTask) -> Row:
        """Return the input of one tile."""
        opened = self._open[task.call]
        tile, call = opened.tiles[task.index], opened.call
        if isinstance(call, Denoise):
            return Row(tile.cut(call.latents), call.sigma, self._prompts[call.negative])
        field = call.latents if isinstance(call, Decode) else call.pixels
        scale = 1 if isinstance(call, Decode) else self._info.vae_factor
        return Row(tile.scaled(scale).cut(field), 0.0, self._prompts[0])

    def complete(self, task: TileTask, result: Tensor) -> bool:
        """Take one tile's result; return True when the request goes on (see ``tasks``) or ends."""
        self._open[task.call].results[task.index] = result
        self._unfinished -= 1
        if self._unfinished:
            return False
        answers = tuple(self._join(opened) for opened in self._open)
        try:
            calls = self._sampler.send(answers)
        except StopIteration as end:
            self.steps_done = self.steps
            self.picture = end.value
            self._open = []
            self.tasks = []
            return True
        self._open_calls(calls)
        return True

    def result(self, arrived_s: float) -> UpscaleResult:
        """Round the picture so that it gives the input back, and report on it.

        Raises:
            InvalidResult: the picture holds NaN or infinity.
        """
        assert self.picture is not None
        if not bool(torch.isfinite(self.picture).all()):
            raise InvalidResult("the model produced a picture with non-finite samples")
        plain = self.request.params.projection == "none"
        round_ = round_plainly if plain else round_consistently
        rounded: RoundedImage = round_(self.picture, self._y, self._operator)
        return UpscaleResult(
            request_id=self.request.request_id,
            image=rounded.image.permute(1, 2, 0).contiguous().cpu().numpy(),
            unrounded=self.picture.cpu(),
            seed=self.seed,
            consistency=Consistency(
                exact=rounded.exact,
                exact_share=rounded.exact_share,
                reachable=rounded.reachable,
                psnr_db=rounded.psnr_db,
            ),
            queue_s=self.started_s - arrived_s,
            compute_s=time.monotonic() - self.started_s,
        )

    def close(self) -> None:
        """Drop the sampler and every tensor it holds."""
        self._sampler.close()
        self._open.clear()
        self.tasks = []

    def _open_calls(self, calls: tuple[NetworkCall, ...]) -> None:
        if isinstance(calls[0], Denoise):
            self.steps_done = self._steps_begun
            self._steps_begun += 1
        self._open = []
        self.tasks = []
        for number, call in enumerate(calls):
            tiles = self._tiles(call)
            self._open.append(OpenCall(call, tiles, [None] * len(tiles)))
            self.tasks += [
                TileTask(
                    self.request.request_id, PHASES[type(call)], (t.height, t.width), number, i
                )
                for i, t in enumerate(tiles)
            ]
        self._unfinished = len(self.tasks)

    def _tiles(self, call: NetworkCall) -> tuple[Tile, ...]:
        """Cover a call's field, in latent cells."""
        factor, side_px = self._info.vae_factor, self._info.native_px
        if not isinstance(call, Denoise):
            side_px = max(VAE_TILE_PX, side_px)
        side = side_px // factor
        return cover(*self._cells, side, side // OVERLAP_SHARE)

    def _join(self, opened: OpenCall) -> Tensor:
        """Blend the results of a call's tiles into one field, on the grid the call answers on."""
        scale = self._info.vae_factor if isinstance(opened.call, Decode) else 1
        values = [value for value in opened.results if value is not None]
        tiles = [tile.scaled(scale) for tile in opened.tiles]
        ramp = min(tiles[0].height, tiles[0].width) // OVERLAP_SHARE
        return blend(tiles, values, ramp)
