"""What a replica makes of its arguments before it is ready."""

from pathlib import Path
from typing import Literal

import pytest

from deployments.upscaler import UpscalerArgs
from deployments.warm import warm_engine
from nullscale.networks.fast_transformer import FastTransformer
from nullscale.networks.model import SRModel


@pytest.mark.parametrize(("compile_", "count"), [("auto", 0), ("never", 0), ("always", 1)])
def test_networks_are_compiled_on_cuda_or_where_it_is_asked_for(
    tiny_checkpoint: Path,
    compile_: Literal["auto", "never", "always"],
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[SRModel] = []
    # The real one takes minutes, and has its own tests.
    monkeypatch.setattr("nullscale.networks.compiling.compile_networks", compiled.append)
    args = UpscalerArgs(model=str(tiny_checkpoint), device="cpu", compile=compile_)
    engine, _ = warm_engine(args)
    assert compiled == [engine.model] * count


@pytest.mark.parametrize(("transformer", "fast"), [("fast", True), ("stock", False)])
def test_the_transformer_is_the_one_asked_for(
    tiny_checkpoint: Path, transformer: Literal["fast", "stock"], fast: bool
) -> None:
    args = UpscalerArgs(model=str(tiny_checkpoint), device="cpu", transformer=transformer)
    model = warm_engine(args)[0].model
    assert isinstance(model, SRModel)
    assert isinstance(model.transformer, FastTransformer) is fast
