"""One replica's engine, in this process, with a tiny model."""

import asyncio
import pickle
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_checkpoint

from deployments.schemas import ModelDescription, UpscaleReply
from deployments.upscaler import Upscaler, UpscalerArgs
from sr_engine import errors
from sr_engine.engine import SREngine
from sr_engine.errors import DeadlineExceeded, EngineDead, EngineOverloaded, InvalidParameter
from sr_engine.loading import load_model
from sr_engine.request import UpscaleParams

PICTURE = np.random.default_rng(0).integers(60, 200, (9, 7, 3), dtype=np.uint8)


SOON_S = time.time() + 600


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def upscaler(checkpoint: Path) -> Iterator[Upscaler]:
    upscaler = Upscaler(UpscalerArgs(model=str(checkpoint), device="cpu", threads=1))
    yield upscaler
    upscaler.close()


async def test_a_reply_is_what_the_engine_makes(upscaler: Upscaler, checkpoint: Path) -> None:
    arrived = PICTURE.copy()
    arrived.flags.writeable = False  # as Ray hands it over
    reply = await upscaler.upscale(arrived, {"seed": 3, "num_inference_steps": 2}, "a", SOON_S)
    engine = SREngine(load_model(str(checkpoint), device="cpu"))
    expected = engine.upscale(PICTURE, UpscaleParams(seed=3, num_inference_steps=2))
    np.testing.assert_array_equal(reply.image, expected.image)
    assert (reply.seed, reply.model) == (3, checkpoint.name)
    assert reply.reachable == expected.consistency.reachable
    assert reply.compute_s > 0


async def test_one_id_used_twice_is_two_requests(upscaler: Upscaler) -> None:
    replies = await asyncio.gather(
        *(
            upscaler.upscale(PICTURE, {"seed": s, "num_inference_steps": 1}, "same", SOON_S)
            for s in (1, 2)
        )
    )
    assert [reply.seed for reply in replies] == [1, 2]
    upscaler.check_health()


async def test_cancelling_frees_the_engine(upscaler: Upscaler) -> None:
    # The longest job there is; with it in the way, the next would take minutes.
    endless = asyncio.create_task(
        upscaler.upscale(PICTURE, {"num_inference_steps": 1000}, "a", time.time() + 1e5)
    )
    await asyncio.sleep(0.2)
    endless.cancel()
    with pytest.raises(asyncio.CancelledError):
        await endless
    reply = await upscaler.upscale(PICTURE, {"seed": 1, "num_inference_steps": 1}, "b", SOON_S)
    assert reply.image.shape == (36, 28, 3)


async def test_it_describes_its_model(upscaler: Upscaler, checkpoint: Path) -> None:
    description = await upscaler.describe()
    assert (description.name, description.device, description.native_px) == (
        checkpoint.name,
        "cpu",
        64,
    )
    assert not description.prompts and description.parameters > 0


async def test_what_would_take_too_long_is_refused_at_once(upscaler: Upscaler) -> None:
    # Only what has been measured is refused.
    await upscaler.upscale(PICTURE, {"num_inference_steps": 2}, "a", SOON_S)
    with pytest.raises(DeadlineExceeded, match="would take"):
        await upscaler.upscale(PICTURE, {"num_inference_steps": 1000}, "a", time.time() + 0.01)


async def test_parameters_are_checked_here_too(upscaler: Upscaler) -> None:
    with pytest.raises(InvalidParameter, match="eta"):
        await upscaler.upscale(PICTURE, {"eta": 2.0}, "a", SOON_S)


async def test_a_dead_engine_is_unhealthy(upscaler: Upscaler) -> None:
    upscaler.check_health()
    upscaler.close()
    with pytest.raises(EngineDead):
        upscaler.check_health()
    with pytest.raises(EngineDead):
        await upscaler.describe()
    # The next picture makes the replica leave, so that Serve sends no more of them.
    left: list[int] = []
    upscaler._leave = left.append
    with pytest.raises(EngineDead):
        await upscaler.upscale(PICTURE, {}, "a", SOON_S)
    assert left == [1]


def test_what_crosses_processes_survives_it() -> None:
    names = {f.name for f in fields(UpscaleReply)} | {f.name for f in fields(ModelDescription)}
    assert "unrounded" not in names, "no tensors"
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in kinds:
        given = {InvalidParameter: ("eta", "too large"), EngineOverloaded: (2.5,)}
        error = kind(*given.get(kind, ("prompt",)))
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (kind, str(error), vars(error))
