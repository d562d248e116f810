"""What is counted is what happened."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from fakes import FakeModel
from prometheus_client import CollectorRegistry
from torch import Tensor

from nullscale.errors import EngineError
from nullscale.maths.params import UpscaleParams
from nullscale.scheduling.work import Variant
from sr_engine.engine import SREngine
from sr_engine.metrics import Metrics, PrometheusRecorder
from sr_engine.model import PromptEmbeddings
from sr_engine.request import UpscaleRequest

IMAGE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


def counting(model: FakeModel) -> tuple[SREngine, CollectorRegistry]:
    recorder = PrometheusRecorder()
    return SREngine(model, metrics=Metrics(recorder)), recorder.registry


def test_batches_and_results_are_counted() -> None:
    model = FakeModel()
    engine, registry = counting(model)
    for seed in range(4):
        params = UpscaleParams(num_inference_steps=3, scale=2, seed=seed)
        engine.add_request(UpscaleRequest(request_id=str(seed), image=IMAGE, params=params))
    assert len(engine.queue()) == registry.get_sample_value("nullscale_waiting_requests") == 4
    while engine.has_work():
        engine.step()
    for phase, asked in (("denoise", 3), ("decode", 3), ("encode", 2)):
        rows = registry.get_sample_value("nullscale_batch_rows_sum", {"phase": phase})
        assert rows == sum(n for name, n in model.calls if name == phase) == 4 * asked
    done = registry.get_sample_value("nullscale_requests_total", {"outcome": "done"})
    assert done == registry.get_sample_value("nullscale_estimate_error_ratio_count") == 4
    busy_s = registry.get_sample_value("nullscale_busy_seconds_total")
    networks_s = sum(engine.runner.seconds.values())
    assert busy_s is not None and busy_s > networks_s > 0


class Short(FakeModel):
    def velocity(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[PromptEmbeddings],
        variant: Variant = Variant.BASE,
    ) -> Tensor:
        raise torch.OutOfMemoryError("no room")


def test_failures_are_counted_by_kind() -> None:
    engine, registry = counting(Short())
    with pytest.raises(EngineError):
        engine.upscale(IMAGE, UpscaleParams(scale=2))
    assert registry.get_sample_value("nullscale_requests_total", {"outcome": "OutOfMemory"}) == 1
