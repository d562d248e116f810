"""The engine's benchmark counts what it says, in short."""

from bench_engine import projections_timed, requests, run, run_naively
from fakes import FakeModel

from sr_engine.engine import SREngine


def test_networks_and_projections_are_parts_of_the_time() -> None:
    engine = SREngine(FakeModel())
    given = requests(engine, 3, 16)
    wall_s, networks_s, projections_s = run(engine, given)
    assert networks_s > 0 and projections_s > 0
    assert networks_s + projections_s < wall_s
    assert run_naively(engine, given) > 0


def test_projections_are_timed() -> None:
    engine = SREngine(FakeModel())
    (given,) = requests(engine, 1, 16)
    with projections_timed() as spent:
        engine.upscale(given.image, given.params)
    # Three steps: each projects once, the last in pixels.
    assert len(spent) == 3
    engine.upscale(given.image, given.params)
    assert len(spent) == 3
