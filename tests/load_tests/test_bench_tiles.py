"""Short tiles against long ones."""

import pytest
from bench_tiles import LONG, SHORT, cells, seconds
from fakes import FakeModel
from skimage import data

import sr_engine.plan
from nullscale.scheduling.work import Phase
from sr_engine.engine import SREngine


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what the benchmark sets undone."""
    monkeypatch.setattr(sr_engine.plan, "SIDE_STEPS", sr_engine.plan.SIDE_STEPS)


def test_short_tiles_are_less_to_do() -> None:
    info = FakeModel(native_px=64).info
    one, short, long = (
        cells(side_px, info, Phase.DENOISE, sides)
        for side_px, sides in ((64, SHORT), (68, SHORT), (68, LONG))
    )
    assert long == 4 * one
    assert one < short < 0.5 * long


def test_a_picture_is_timed() -> None:
    assert seconds(SREngine(FakeModel()), data.astronaut()[:12, :12].copy(), 1, LONG) > 0
