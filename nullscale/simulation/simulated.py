"""A model that takes a GPU's time and does none of its work, for clusters without GPUs.

The scheduler, the batches, their costs and the engine's thread are the real ones; the networks
sleep for as long as the published figures say. Pictures are enlarged by repeating pixels, which
costs this machine next to nothing.
"""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nullscale.maths.consistency import Consistency
from nullscale.maths.operators import output_side
from nullscale.maths.params import UpscaleParams
from nullscale.scheduling.work import Kind, Phase, Variant
from nullscale.simulation.devices import PREFIX, Device, find_device
from sr_engine.events import UpscaleResult
from sr_engine.model import Model, ModelInfo, PromptEmbeddings
from sr_engine.plan import plan_stages
from sr_engine.request import UpscaleRequest
from sr_engine.runner import Row


class SimulatedModel:
    """Sleeps through every batch; its rows are empty tiles that say their size in latent cells.

    Args:
        name: of a device, with its options; see `find_device`.
        sleep: and `clock` go together.

    Raises:
        ModelLoadError: there is no such device.
    """

    def __init__(
        self,
        name: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device = find_device(name)
        self._sleep = sleep
        self._clock = clock
        self._free_s = -math.inf
        sleep(self._device.load_s)
        self.info = describe(name, self._device)
        self.defaults = UpscaleParams()
        self.empty_prompt = PromptEmbeddings(torch.zeros(1, 1), torch.zeros(1))

    def velocity(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[PromptEmbeddings],
        variant: Variant = Variant.BASE,
    ) -> Tensor:
        """Take the transformer's time."""
        return self._work(Phase.DENOISE, latents)

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        """Take the decoder's time."""
        return self._work(Phase.DECODE, latents)

    def encode(self, pixels: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        """Take the encoder's time."""
        return self._work(Phase.ENCODE, pixels)

    def encode_prompt(self, prompt: str) -> PromptEmbeddings:
        """Return what the empty prompt gives."""
        return self.empty_prompt

    def release_float32(self) -> None:
        """Do nothing: there are no weights."""

    def _work(self, phase: Phase, batch: Tensor) -> Tensor:
        rows, _, height, width = batch.shape
        seconds = self._device.batch_s(Kind(phase, height, width), rows)
        # A GPU goes on while its host prepares the next batch: a host that is late by less than a
        # batch, as this one is after every sleep, does not hold it up.
        now_s = self._clock()
        started_s = self._free_s if now_s - self._free_s < seconds else now_s
        self._free_s = started_s + seconds
        self._sleep(self._free_s - now_s)
        return batch


def describe(name: str, device: Device) -> ModelInfo:
    """Return what the engine knows of a simulated model."""
    return ModelInfo(
        name=f"{PREFIX}{name}",
        native_px=8 * device.native,
        vae_factor=8,
        multiple_px=16,
        latent_channels=16,
        shift=3.0,
        parameters=0,
        memory_bytes=0,
        device="cpu",
        dtype="float32",
        prompts=False,
        draft=False,
    )


class SimulatedRequest:
    """Goes through a request's plan, as `ActiveRequest` does, without its tensors."""

    def __init__(self, request: UpscaleRequest, model: Model) -> None:
        self.request = request
        self.seed = request.params.seed or 0
        self.started_s = time.monotonic()
        self.steps = request.params.denoising_steps
        self.steps_done = 0
        self.picture: Tensor | None = None
        self._plan = iter(plan_stages(request, model.info))
        self._steps_begun = 0
        self._advance()

    def row(self, number: int) -> Row:
        """Return an empty tile of the present stage."""
        empty = torch.zeros(1)
        tile = empty[:, None].expand(1, self._kind.height, self._kind.width)
        return Row(tile, 0.0, PromptEmbeddings(empty[None], empty))

    def complete(self, number: int, result: Tensor) -> None:
        """Count a row; after a stage's last the next begins."""
        self._unfinished -= 1
        if not self._unfinished:
            self._advance()

    def preview(self) -> None:
        """Return none: nothing is decoded."""

    def result(self, arrived_s: float) -> UpscaleResult:
        """Return the enlargement."""
        height, width = (
            output_side(side, self.request.params.scale) for side in self.request.image.shape[:2]
        )
        small = Image.fromarray(self.request.image)
        large = np.asarray(small.resize((width, height), Image.Resampling.NEAREST))
        return UpscaleResult(
            request_id=self.request.request_id,
            image=large,
            unrounded=torch.zeros(1, 1, 1).expand(3, height, width),
            seed=self.seed,
            consistency=Consistency(exact=False, exact_share=0.0, reachable=True, psnr_db=None),
            queue_s=self.started_s - arrived_s,
            compute_s=time.monotonic() - self.started_s,
        )

    def close(self) -> None:
        """Do nothing: it holds nothing."""

    def _advance(self) -> None:
        stage = next(self._plan, None)
        if stage is None:
            self.steps_done = self.steps
            self.picture = torch.zeros(0)
            return
        self._kind, self._unfinished = stage.kind, stage.rows
        if stage.kind.phase is Phase.DENOISE:
            self.steps_done = self._steps_begun
            self._steps_begun += 1
