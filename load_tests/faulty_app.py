"""The application with replicas that fail on demand, for tests of what becomes of the requests.

Built as `deployments.app:build_app` builds it; the product itself has no such switch.
"""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from unittest.mock import patch

import torch
from ray.serve import Application
from torch import Tensor

import deployments.app
from deployments.app import AppArgs
from deployments.messages import UpscaleReply
from deployments.upscaler import Upscaler, UpscalerArgs
from nullscale.scheduling.work import Variant
from sr_engine.events import UpscaleResult
from sr_engine.model import Model, PromptEmbeddings


class FaultyModel:
    """A model that calls `fault` with each batch of latents before it denoises them."""

    def __init__(self, model: Model, fault: Callable[[Tensor], None]) -> None:
        self.info, self.defaults, self.empty_prompt = model.info, model.defaults, model.empty_prompt
        self.decode, self.encode = model.decode, model.encode
        self.encode_prompt, self.release_float32 = model.encode_prompt, model.release_float32
        self._velocity = model.velocity
        self._fault = fault

    def velocity(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[PromptEmbeddings],
        variant: Variant = Variant.BASE,
    ) -> Tensor:
        self._fault(latents)
        return self._velocity(latents, sigmas, prompts, variant)


class FaultyUpscaler(Upscaler):
    """A replica with a method that makes its next batch fail, or its next picture wrong."""

    def __init__(self, args: UpscalerArgs) -> None:
        super().__init__(args)
        self._fault = "none"
        runner = self._engine._engine.runner
        runner.model = FaultyModel(runner.model, self._strike)

    async def inject(self, fault: str) -> int:
        """Make the next batch fail, in one of the ways of `_strike`; return the process's id.

        "failure" is every batch from now on, until another fault is asked for; "wrong" makes the
        next picture one that does not give its input back.
        """
        self._fault = fault
        return os.getpid()

    def _reply(self, result: UpscaleResult) -> UpscaleReply:
        reply = super()._reply(result)
        if self._fault == "wrong":
            self._fault = "none"
            reply = replace(reply, image=255 - reply.image)
        return reply

    def _strike(self, latents: Tensor) -> None:
        fault = self._fault
        if fault == "out_of_memory_of_a_batch" and len(latents) == 1:
            return
        if fault == "failure":
            raise RuntimeError("a failure of the model (injected)")
        if fault == "wrong":
            return
        self._fault = "none"
        if fault.startswith("out_of_memory"):
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        if fault == "lost_device":
            raise torch.AcceleratorError("CUDA error: an illegal memory access (injected)")
        if fault == "hang":
            threading.Event().wait()


def build_app(args: AppArgs) -> Application:
    """Build the application of the configuration files with such replicas."""
    with patch.object(deployments.app, "Upscaler", FaultyUpscaler):
        return deployments.app.build_app(args)
