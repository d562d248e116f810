"""One replica's engine, in this process, with a tiny model."""

import asyncio
import logging
import pickle
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import write_checkpoint
from faulty_app import FaultyModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from deployments.messages import ModelDescription, UpscaleReply
from deployments.upscaler import Upscaler, UpscalerArgs
from nullscale import errors
from nullscale.errors import (
    DeadlineExceeded,
    EngineDead,
    EngineOverloaded,
    InvalidParameter,
    ModelLoadError,
)
from nullscale.maths.params import UpscaleParams
from nullscale.networks.loading import load_model
from sr_engine.engine import SREngine

PICTURE = np.random.default_rng(0).integers(60, 200, (9, 7, 3), dtype=np.uint8)


def soon_s() -> float:
    """Not at import: the suite may take longer than that."""
    return time.time() + 600


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
    reply = await upscaler.upscale(arrived, {"seed": 3, "num_inference_steps": 2}, "a", soon_s())
    engine = SREngine(load_model(str(checkpoint), device="cpu"))
    expected = engine.upscale(PICTURE, UpscaleParams(seed=3, num_inference_steps=2))
    np.testing.assert_array_equal(reply.image, expected.image)
    assert (reply.seed, reply.model) == (3, checkpoint.name)
    assert reply.reachable == expected.consistency.reachable
    assert reply.compute_s > 0
    assert reply.start_s == (await upscaler.describe()).start_s > 0


async def test_one_id_used_twice_is_two_requests(upscaler: Upscaler) -> None:
    replies = await asyncio.gather(
        *(
            upscaler.upscale(PICTURE, {"seed": s, "num_inference_steps": 1}, "same", soon_s())
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
    reply = await upscaler.upscale(PICTURE, {"seed": 1, "num_inference_steps": 1}, "b", soon_s())
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
    await upscaler.upscale(PICTURE, {"num_inference_steps": 2}, "a", soon_s())
    with pytest.raises(DeadlineExceeded, match="would take"):
        await upscaler.upscale(PICTURE, {"num_inference_steps": 1000}, "a", time.time() + 0.01)


async def test_parameters_are_checked_here_too(upscaler: Upscaler) -> None:
    with pytest.raises(InvalidParameter, match="eta"):
        await upscaler.upscale(PICTURE, {"eta": 2.0}, "a", soon_s())


async def test_a_replica_leaves_with_its_engine(upscaler: Upscaler) -> None:
    left: list[int] = []
    upscaler._leave = left.append
    upscaler.check_health()
    upscaler.close()
    with pytest.raises(EngineDead):
        upscaler.check_health()
    with pytest.raises(EngineDead):
        await upscaler.describe()
    with pytest.raises(EngineDead):
        await upscaler.upscale(PICTURE, {}, "a", soon_s())
    assert left == [1, 1, 1]


async def test_a_hung_batch_makes_the_replica_leave(checkpoint: Path) -> None:
    args = UpscalerArgs(model=str(checkpoint), device="cpu", threads=1, heartbeat_limit_s=2.5)
    upscaler = Upscaler(args)
    left: list[int] = []
    upscaler._leave = left.append
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(latents: Tensor) -> None:
        hangs.set()
        assert goes_on.wait(60)

    runner = upscaler._engine._engine.runner
    runner.model = FaultyModel(runner.model, hang)
    waiting = asyncio.create_task(upscaler.upscale(PICTURE, {}, "a", soon_s()))
    assert await asyncio.to_thread(hangs.wait, 60)
    upscaler.check_health()
    await asyncio.sleep(3)
    with pytest.raises(EngineDead, match="has not finished a batch"):
        upscaler.check_health()
    assert left == [1]
    waiting.cancel()
    goes_on.set()
    upscaler.close()


async def test_a_lost_device_fails_every_picture_and_the_replica_leaves(upscaler: Upscaler) -> None:
    left: list[int] = []
    upscaler._leave = left.append

    def lose(latents: Tensor) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    runner = upscaler._engine._engine.runner
    runner.model = FaultyModel(runner.model, lose)
    ends = await asyncio.gather(
        *(upscaler.upscale(PICTURE, {"seed": s}, "a", soon_s()) for s in range(3)),
        return_exceptions=True,
    )
    assert [type(end) for end in ends] == [EngineDead] * 3
    assert left == [1, 1, 1]


@pytest.fixture
def no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts back what a failed start changes in a process that it takes for its own."""
    monkeypatch.setattr(sys, "tracebacklimit", 1000, raising=False)


def truncate(folder: Path) -> str:
    (weights,) = (folder / "transformer").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    return "transformer: cannot be read"


def poison(folder: Path) -> str:
    (weights,) = (folder / "vae").glob("*.safetensors")
    tensors = load_file(weights)
    tensors["decoder.conv_in.weight"][0, 0, 0, 0] = torch.nan
    save_file(tensors, weights, {"format": "pt"})
    return "vae: 1 weights have NaN or infinite values in torch.float32, decoder.conv_in.weight"


def pickle_it(folder: Path) -> str:
    (weights,) = (folder / "vae").glob("*.safetensors")
    weights.rename(weights.with_name("diffusion_pytorch_model.bin"))
    return "vae: its weights are pickled, which is unsafe to read"


@pytest.mark.usefixtures("no_limit")
@pytest.mark.parametrize("spoil", [truncate, poison, pickle_it])
def test_bad_weights_are_told_in_one_line(
    spoil: Callable[[Path], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(tmp_path)
    reason = spoil(tmp_path)
    with pytest.raises(ModelLoadError) as caught:
        Upscaler(UpscalerArgs(model=str(tmp_path), device="cpu"))
    (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
    assert line == f"no replica: {caught.value}"
    assert line.startswith(f"no replica: {tmp_path}/{reason}")
    # This is what Serve copies into its status: no frame, no cause.
    text = "".join(traceback.format_exception(caught.value))
    assert text == f"nullscale.errors.ModelLoadError: {caught.value}\n"
    assert len(text.splitlines()) == 1


def wreck(folder: Path) -> None:
    """Finite weights whose products are not."""
    (weights,) = (folder / "vae").glob("*.safetensors")
    tensors = load_file(weights)
    for name in tensors:
        if name.startswith("decoder.conv_out"):
            tensors[name] += 3e38
    save_file(tensors, weights, {"format": "pt"})


@pytest.mark.usefixtures("no_limit")
def test_a_model_that_makes_no_picture_never_serves(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    wreck(tmp_path)
    with pytest.raises(ModelLoadError, match=r"makes no picture: .*(non-finite|out of range)"):
        Upscaler(UpscalerArgs(model=str(tmp_path), device="cpu"))


def test_what_crosses_processes_survives_it() -> None:
    names = {f.name for f in fields(UpscaleReply)} | {f.name for f in fields(ModelDescription)}
    assert "unrounded" not in names, "no tensors"
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in kinds:
        given = {InvalidParameter: ("eta", "too large"), EngineOverloaded: (2.5,)}
        error = kind(*given.get(kind, ("prompt",)))
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (kind, str(error), vars(error))
