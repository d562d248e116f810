"""What a batch that fails leaves behind."""

import gc
import weakref

import torch
from fakes import FakeModel
from torch import Tensor

from nullscale.scheduling.costs import ROW_LIMITS, Costs
from nullscale.scheduling.work import Kind, Phase, Variant
from sr_engine.metrics import Metrics, PrometheusRecorder
from sr_engine.runner import Row, Runner


class Hungry(FakeModel):
    """Fails on rows of ones, with a tensor in its hands."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[weakref.ref[Tensor]] = []
        self.alive: list[int] = []

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        self.alive.append(sum(ref() is not None for ref in self.held))
        activations = latents.clone()
        self.held.append(weakref.ref(activations))
        if (latents == 1).all(dim=(1, 2, 3)).any():
            raise torch.OutOfMemoryError("no room")
        return super().decode(latents, variant)


def test_a_row_that_fails_makes_room_for_its_neighbours() -> None:
    model = Hungry()
    runner = Runner(model, Costs(ROW_LIMITS), Metrics(PrometheusRecorder()))
    info = model.info
    prompt = model.empty_prompt
    side = info.native_px // info.vae_factor
    rows = [
        Row(torch.full((info.latent_channels, side, side), float(value)), 0.0, prompt)
        for value in (1, 1, 0, 0)
    ]
    gc.disable()
    try:
        outcomes = runner.outcomes(Kind(Phase.DECODE, side, side, Variant.BASE), rows)
    finally:
        gc.enable()
    assert [isinstance(outcome, torch.OutOfMemoryError) for outcome in outcomes] == [
        *[True] * 2,
        *[False] * 2,
    ]
    assert len(model.alive) > 4, "the batch was split, then each row was run alone"
    assert not any(model.alive), "what had failed still held its tensors"
