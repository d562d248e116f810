"""Graphs are made before the first request, and none after."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import get_args

import numpy as np
import pytest
import torch
from checkpoints import NATIVE_PX
from torch._dynamo.utils import counters

from nullscale.maths.params import Projection, UpscaleParams
from nullscale.networks.compiling import compile_networks
from nullscale.networks.loading import Transformer, load_model
from nullscale.networks.model import SRModel
from nullscale.scheduling.work import Variant
from sr_engine.async_engine import AsyncSREngine
from sr_engine.engine import SREngine
from sr_engine.events import UpscaleResult
from sr_engine.plan import VAE_TILE_PX
from sr_engine.request import UpscaleRequest

REQUESTS = 200
PROJECTIONS = get_args(Projection)


pytestmark = pytest.mark.usefixtures("fresh_compiler")


def load(drafting_checkpoint: Path, transformer: Transformer = "fast") -> SRModel:
    return load_model(str(drafting_checkpoint), device="cpu", transformer=transformer)


def mixed_requests() -> list[UpscaleRequest]:
    """Requests of many sizes and parameters, the same ones each time."""
    rng, noise = Random(0), np.random.default_rng(0)
    requests = []
    for number in range(REQUESTS):
        # One in ten is as large as the autoencoder's full tile.
        side = VAE_TILE_PX // 4 if number % 10 == 0 else rng.randint(8, 40)
        sides = side, side if number % 20 == 0 else rng.randint(8, 40)
        params = UpscaleParams(
            scale=4 if number % 10 == 0 else rng.choice([1.5, 2, 2.7, 3, 4]),
            num_inference_steps=rng.choice([1, 2, 3]),
            guidance_scale=rng.choice([1.0, 3.0]),
            projection=rng.choice(PROJECTIONS),
            strength=rng.choice([1.0, 0.6]),
            draft=rng.random() < 0.3,
            # Exact rounding takes most of the time of small pictures, and no network.
            ending="latents",
            seed=number,
        )
        image = noise.integers(0, 256, (*sides, 3), dtype=np.uint8)
        requests.append(UpscaleRequest(request_id=str(number), image=image, params=params))
    return requests


def results(model: SRModel, requests: list[UpscaleRequest]) -> list[UpscaleResult]:
    """Run requests beside each other on an engine's own thread."""

    async def run() -> list[UpscaleResult]:
        engine = AsyncSREngine(SREngine(model))
        try:
            return await asyncio.gather(*(engine.upscale(request) for request in requests))
        finally:
            engine.close()

    return asyncio.run(run())


@pytest.mark.parametrize(("transformer", "count"), [("fast", REQUESTS), ("stock", 20)])
def test_requests_compile_nothing_after_the_warm_up(
    drafting_checkpoint: Path, transformer: Transformer, count: int
) -> None:
    model = load(drafting_checkpoint, transformer)
    assert compile_networks(model, backend="eager")
    made = dict(counters["stats"])
    assert made["unique_graphs"] > 0
    # An engine in service runs eagerly what has no graph; this one must not even want one.
    torch.compiler.set_stance("fail_on_recompile")
    answers = results(model, mixed_requests()[:count])
    assert len(answers) == count
    assert dict(counters["stats"]) == made


def test_compiled_pictures_are_the_eager_ones(drafting_checkpoint: Path) -> None:
    requests = [mixed_requests()[number] for number in (0, 3, 7, 10)]
    eager = results(load(drafting_checkpoint), requests)
    model = load(drafting_checkpoint)
    compile_networks(model, backend="aot_eager")
    for ours, theirs in zip(results(model, requests), eager, strict=True):
        torch.testing.assert_close(ours.unrounded, theirs.unrounded, atol=1e-4, rtol=0)


def test_where_the_compiler_fails_networks_run_eagerly(drafting_checkpoint: Path) -> None:
    def broken(graph: object, inputs: object) -> object:
        raise RuntimeError("no compiler here")

    model = load(drafting_checkpoint)
    assert not compile_networks(model, backend=broken)
    assert len(results(model, mixed_requests()[:3])) == 3


@torch.inference_mode()
def test_the_float32_networks_of_a_compiled_model_are_eager(drafting_checkpoint: Path) -> None:
    model = load(drafting_checkpoint)
    compile_networks(model, backend="eager")
    torch.compiler.set_stance("fail_on_recompile")
    side = NATIVE_PX // model.info.vae_factor
    x = torch.zeros(1, model.info.latent_channels, side, side)
    prompt = [model.empty_prompt]
    base, exact = (
        model.velocity(x, torch.ones(1), prompt, v) for v in (Variant.BASE, Variant.FLOAT32)
    )
    torch.testing.assert_close(base, exact)


def test_a_second_model_of_a_process_is_compiled_too(drafting_checkpoint: Path) -> None:
    for _ in range(2):
        graphs: list[torch.fx.GraphModule] = []

        def kept(
            graph: torch.fx.GraphModule,
            inputs: list[torch.Tensor],
            graphs: list[torch.fx.GraphModule] = graphs,
        ) -> Callable[..., object]:
            graphs.append(graph)
            return graph.forward

        assert compile_networks(load(drafting_checkpoint), backend=kept)
        assert graphs
