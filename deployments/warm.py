"""From a replica's arguments to an engine that has made a picture, or to one clear line."""

import logging
import sys
import time

import numpy as np
import torch

from deployments.metrics import RayRecorder
from deployments.upscaler import UpscalerArgs
from deployments.workload import work_units
from nullscale.errors import ModelLoadError, NullscaleError
from nullscale.networks.checkpoint import one_line
from nullscale.simulation.devices import PREFIX
from nullscale.simulation.simulated import SimulatedModel, SimulatedRequest
from sr_engine.active import ActiveRequest
from sr_engine.caps import settle_caps
from sr_engine.engine import SREngine
from sr_engine.jobs import Begin
from sr_engine.metrics import Metrics, PrometheusRecorder
from sr_engine.model import Model
from sr_engine.plan import VAE_TILE_PX
from sr_engine.runner import Runner

logger = logging.getLogger(__name__)

GPU_CAPS_BUDGET_S = 30.0
CPU_CAPS_BUDGET_S = 1.0


def warm_engine(args: UpscalerArgs) -> tuple[SREngine, float]:
    """Load a model and make a picture with it.

    Returns:
        The engine, and the seconds that a unit of work took it.

    Raises:
        ModelLoadError: there is no such model, it cannot be used, or what it makes is no picture.
            The process is of no use any more: tracebacks are switched off in it.
    """
    try:
        return _warm_engine(args)
    except ModelLoadError as err:
        reason = one_line(err)
    except (NullscaleError, torch.OutOfMemoryError, torch.AcceleratorError, OSError) as err:
        reason = f"{args.model} makes no picture: {one_line(err)}"
    logger.critical("no replica: %s", reason)
    # Serve copies the traceback into its status and its log, once for each of its tries, and the
    # line above says all there is to say.
    sys.tracebacklimit = 0
    raise ModelLoadError(reason)


def _warm_engine(args: UpscalerArgs) -> tuple[SREngine, float]:
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    model: Model
    begin: Begin
    if args.model.startswith(PREFIX):
        model, begin = SimulatedModel(args.model.removeprefix(PREFIX)), SimulatedRequest
    else:
        # Diffusers takes longest of all that a replica imports, and a simulated one needs none.
        from nullscale.networks.loading import load_model

        model = loaded = load_model(
            args.model,
            device=args.device,
            dtype=args.dtype,
            draft=args.draft,
            quantize=args.quantize,
            autoencoder=args.autoencoder,
            transformer=args.transformer,
        )
        on_cuda = loaded.device.type == "cuda"
        if args.compile == "always" or (args.compile == "auto" and on_cuda):
            from nullscale.networks.compiling import compile_networks

            compile_networks(loaded)
        begin = ActiveRequest
    engine = SREngine(model, begin=begin, metrics=Metrics(RayRecorder()))
    # A real picture through every network, so that no client pays for what the first one costs; as
    # large as the autoencoder's longest tiles, since what has not run is estimated by the largest.
    side = int(max(VAE_TILE_PX, model.info.native_px) / model.defaults.scale)
    photo = np.arange(side * side * 3, dtype=np.uint32).reshape(side, side, 3).astype(np.uint8)
    params = model.defaults.override({"num_inference_steps": 2, "travel_length": 0})
    steps_s: list[float] = []
    result = engine.upscale(photo, params, on_step=lambda _: steps_s.append(time.perf_counter()))
    # The first step pays for what comes once; a step later costs are the usual ones.
    height, width, _ = result.image.shape
    unit_s = (time.perf_counter() - steps_s[0]) / work_units(height * width, 1)
    # A simulated device has no memory to find out about, and its batches share as they are told to.
    if begin is ActiveRequest:
        _settle_caps(engine, args.caps_budget_s)
    return engine, unit_s


def _settle_caps(engine: SREngine, budget_s: float | None) -> None:
    if budget_s is None:
        on_gpu = engine.model.info.device.startswith("cuda")
        budget_s = GPU_CAPS_BUDGET_S if on_gpu else CPU_CAPS_BUDGET_S
    # Counted apart: none of it is a client's.
    runner = Runner(engine.model, engine.runner.costs, Metrics(PrometheusRecorder()))
    settle_caps(runner, budget_s)
