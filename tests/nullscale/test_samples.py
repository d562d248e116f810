"""Several pictures of one input: mean, spread, and what becomes of the engine."""

import numpy as np
import pytest
import torch
from fakes import FakeModel
from PIL import Image
from torch import Tensor

from nullscale.errors import InvalidParameter, InvalidResult
from nullscale.maths.params import MAX_SEED, UpscaleParams
from nullscale.samples import Moments, draw_samples
from nullscale.scheduling.work import Variant
from sr_engine.engine import SREngine

IMAGE = np.random.default_rng(0).integers(90, 160, (6, 9, 3)).astype(np.uint8)
PARAMS = UpscaleParams(scale=2, num_inference_steps=3, seed=MAX_SEED)


def test_moments_are_those_of_all_at_once() -> None:
    pictures = torch.randn(5, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    moments = Moments()
    for picture in pictures:
        moments.add(picture)
    torch.testing.assert_close(moments.mean, pictures.mean(0))
    torch.testing.assert_close(moments.variance(), pictures.var(0))


def test_mean_and_spread_are_those_of_each_seed_alone() -> None:
    model = FakeModel()
    found = draw_samples(SREngine(model), IMAGE, PARAMS, 4)
    assert found.seeds == (MAX_SEED, 0, 1, 2)
    assert max(rows for _, rows in model.calls) > 1
    alone = [
        SREngine(FakeModel()).upscale(IMAGE, PARAMS.override({"seed": seed})).unrounded
        for seed in found.seeds
    ]
    pictures = torch.stack(alone)
    expected = 255 * pictures.var(0).mean(0).sqrt()
    np.testing.assert_allclose(found.spread, expected, atol=1e-3)
    # Rounding moves a sample by little more than half a level where the range is not touched.
    mean = 255 * pictures.mean(0).permute(1, 2, 0).numpy()
    assert np.abs(found.image - mean).mean() < 1


def test_the_mean_gives_the_input_back() -> None:
    found = draw_samples(SREngine(FakeModel()), IMAGE, PARAMS, 3)
    assert found.consistency.exact
    back = Image.fromarray(found.image).resize((9, 6), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.asarray(back), IMAGE)


def test_without_fresh_noise_or_projection_they_still_differ_and_promise_nothing() -> None:
    params = PARAMS.override({"projection": "none", "eta": 0.0})
    found = draw_samples(SREngine(FakeModel()), IMAGE, params, 2)
    assert found.spread.min() > 0
    assert found.consistency.reachable


@pytest.mark.parametrize("count", [1, 65])
def test_too_few_and_too_many_are_refused(count: int) -> None:
    with pytest.raises(InvalidParameter, match="samples"):
        draw_samples(SREngine(FakeModel()), IMAGE, PARAMS, count)


class Broken(FakeModel):
    """Its pictures are none."""

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        return torch.full_like(super().decode(latents, variant), torch.nan)


def test_one_failure_takes_all_of_them_out() -> None:
    engine = SREngine(Broken())
    with pytest.raises(InvalidResult):
        draw_samples(engine, IMAGE, PARAMS, 3)
    assert not engine.has_work()
