"""The engine's benchmark counts what it says, in short."""

from bench_engine import maths_timed, requests, run, run_naively
from fakes import FakeModel

from sr_engine.engine import SREngine


def test_efficiency_is_a_share_of_the_time() -> None:
    engine = SREngine(FakeModel())
    given = requests(engine, 3, 16)
    wall_s, efficiency = run(engine, given)
    assert wall_s > 0
    assert 0 < efficiency < 1
    assert run_naively(engine, given) > 0


def test_projections_and_roundings_are_timed() -> None:
    engine = SREngine(FakeModel())
    (given,) = requests(engine, 1, 16)
    with maths_timed() as spent:
        engine.upscale(given.image, given.params)
    # Three steps: each projects once, the last in pixels; and the rounding.
    assert len(spent) == 3 + 1
    engine.upscale(given.image, given.params)
    assert len(spent) == 3 + 1
