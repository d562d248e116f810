"""One engine on one device: the thin deployment around `AsyncSREngine`."""

import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from pydantic import BaseModel, ConfigDict, Field

from deployments import logs
from deployments.messages import ModelDescription, UpscaleReply
from deployments.repeating import repeat
from deployments.settings import Settings
from nullscale.errors import EngineDead
from nullscale.maths.params import Value
from nullscale.scheduling.work import Caps
from sr_engine.events import Progress, UpscaleResult
from sr_engine.request import UpscaleRequest

logger = logging.getLogger(__name__)

PREVIEW_PX = 256


class UpscalerArgs(BaseModel):
    """What a replica loads, and where."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        description='"bundled", a folder, a hub id (gated ones need $HF_TOKEN) or '
        "simulated:DEVICE, with its options as in simulated:sd3.5-medium-h100?slow=5&load_s=60"
    )
    device: str = Field(
        default="auto", description="cpu or cuda; auto takes CUDA where there is one"
    )
    dtype: str = Field(default="auto", description="float32, bfloat16 or float16")
    draft: str | None = Field(
        default=None, description="an AutoencoderTiny for intermediate steps, folder or hub id"
    )
    quantize: Literal["nf4", "fp8"] | None = Field(
        default=None,
        description="keeps the transformer's weights in fewer bits (nf4 on CUDA only), with the "
        "extra `quantize` installed",
    )
    caps_budget_s: float | None = Field(
        default=None,
        ge=0,
        description="before it is ready, a replica tries for so long how many tiles of a batch pay "
        "and fit; 0 leaves that to the first pictures; 30 s on a GPU and 1 s on a CPU if null",
    )
    autoencoder: Literal["fast", "stock"] = Field(
        default="fast",
        description="fast gives the same in fewer operations than stock",
    )
    transformer: Literal["fast", "offloaded", "stock"] = Field(
        default="fast",
        description="offloaded leaves a third of its weights to the host, stock is diffusers' own",
    )
    compile: Literal["auto", "always", "never"] = Field(
        default="auto", description="the transformer, before a replica is ready; auto: on CUDA"
    )
    threads: int | None = Field(
        default=None, ge=1, description="of the CPU; torch's own choice if null"
    )
    heartbeat_limit_s: float = Field(
        default=120.0, gt=0, description="a batch that takes longer counts as hung"
    )


class UpscalerSettings(BaseModel):
    """What may change while a replica runs: its deployment's `user_config`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_active: int = Field(
        default=4, ge=1, description="pictures that hold memory on the device at once"
    )
    max_active_pixels: int = Field(
        default=2**26, ge=1, description="of output in all; at most 256 bytes of memory each"
    )
    max_batch_rows: int = Field(
        default=16, ge=1, description="tiles of a batch; the autoencoder's has 4 at most"
    )


class Upscaler:
    """A replica. It is ready, to Serve, when its constructor has returned."""

    def __init__(self, args: UpscalerArgs) -> None:
        # Half the time of a start goes into importing diffusers. The process in which Serve builds
        # the application has no use for it.
        from deployments.metrics import RayRecorder
        from deployments.replica_metrics import ReplicaMetrics
        from deployments.warm import warm_engine
        from sr_engine.async_engine import AsyncSREngine

        logs.join_serve()
        start_s = time.monotonic()
        engine, self._unit_s = warm_engine(args)
        self._info, self._defaults = engine.model.info, engine.model.defaults
        self._engine = AsyncSREngine(engine, heartbeat_limit_s=args.heartbeat_limit_s)
        self._settings = Settings(UpscalerSettings)
        self._leave: Callable[[int], None] = os._exit
        self._start_s = time.monotonic() - start_s
        logger.info("%s is ready after %.1f s", self._info.name, self._start_s)
        labels = {
            "version": _version(),
            "model": self._info.name,
            "device": self._info.device,
            "dtype": self._info.dtype,
        }
        self._metrics = ReplicaMetrics(
            RayRecorder(), labels, startup_s=self._start_s, heartbeat_limit_s=args.heartbeat_limit_s
        )
        self._engine_metrics = engine.metrics
        repeat(self._refresh)

    async def reconfigure(self, user_config: object) -> None:
        """Work by other caps from the next batch on; see `Settings.change`."""
        self._settings.change(
            user_config, lambda settings: self._engine.limit(Caps(**settings.model_dump()))
        )

    async def upscale(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        params: dict[str, Value],
        request_id: str,
        until_s: float,
    ) -> UpscaleReply:
        """Upscale one picture; cancelling the call takes it out of the engine within one batch.

        Args:
            image: 8-bit sRGB samples.
            params: names and values of `UpscaleParams`; what is absent takes the model's default.
            until_s: Unix time at which the client's time is up; the engine refuses what would take
                longer, and drops what has taken longer.

        Raises:
            NullscaleError: the engine refused it or failed on it.
        """
        request = self._request(image, params, request_id, until_s)
        with self._leaving_if_dead():
            return self._reply(await self._engine.upscale(request))

    async def events(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        params: dict[str, Value],
        request_id: str,
        until_s: float,
    ) -> AsyncIterator[Progress | UpscaleReply]:
        """Upscale one picture, as `upscale`, and yield its events with previews, its reply last."""
        request = self._request(image, params, request_id, until_s)
        request = replace(request, preview_px=PREVIEW_PX)
        with self._leaving_if_dead():
            async with aclosing(self._engine.events(request)) as events:
                async for event in events:
                    yield self._reply(event) if isinstance(event, UpscaleResult) else event

    async def describe(self) -> ModelDescription:
        """What this replica has loaded."""
        self.check_health()
        return ModelDescription(
            name=self._info.name,
            native_px=self._info.native_px,
            parameters=self._info.parameters,
            device=self._info.device,
            dtype=self._info.dtype,
            prompts=self._info.prompts,
            draft=self._info.draft,
            defaults=self._defaults,
            start_s=self._start_s,
            unit_s=self._unit_s,
        )

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Tell the autoscaling policy how long this replica took to start."""
        return {"start_s": self._start_s}

    def check_health(self) -> None:
        """Called by Serve every ``health_check_period_s``; a dead or hung engine ends the replica.

        Raises:
            EngineDead: the engine's thread has ended or hangs.
        """
        try:
            self._engine.check_health()
        except EngineDead as err:
            self._give_up(err)
            raise

    def close(self) -> None:
        """End the engine's thread. A replica's ends with its process."""
        self._engine.close()

    def _refresh(self) -> None:
        """Say every gauge again; in a long batch the engine's own thread does not."""
        self._metrics.refresh(self._engine.heartbeat_age_s)
        self._engine_metrics.refresh()

    def _request(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        params: dict[str, Value],
        request_id: str,
        until_s: float,
    ) -> UpscaleRequest:
        return UpscaleRequest(
            # Clients choose ids, and may choose one twice; the engine takes it once.
            request_id=f"{request_id}.{secrets.token_hex(4)}",
            # Arrays arrive read-only, in memory shared with other processes.
            image=np.array(image),
            params=self._defaults.override(params),
            deadline_s=time.monotonic() + until_s - time.time(),
        )

    def _reply(self, result: UpscaleResult) -> UpscaleReply:
        return UpscaleReply(
            image=result.image,
            model=self._info.name,
            seed=result.seed,
            reachable=result.consistency.reachable,
            queue_s=result.queue_s,
            compute_s=result.compute_s,
            work_s=result.work_s,
            start_s=self._start_s,
        )

    @contextmanager
    def _leaving_if_dead(self) -> Iterator[None]:
        try:
            yield
        except EngineDead as err:
            self._give_up(err)
            raise

    def _give_up(self, err: EngineDead) -> None:
        """Leave, so that Serve starts another replica and the ingress asks another one at once.

        Serve itself would send pictures here until three health checks had failed, and those under
        way would wait for a thread that never comes back.
        """
        logger.critical("%s: the replica leaves", err)
        self._leave(1)


def _version() -> str:
    try:
        return version("nullscale")
    except PackageNotFoundError:
        # Run from a folder, without having been installed.
        return "unknown"
