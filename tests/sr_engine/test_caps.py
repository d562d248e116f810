"""Caps before the first request: what pays by the clock, and what fits."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest
import torch
from fakes import FakeModel
from torch import Tensor

from nullscale.scheduling.costs import ROW_LIMITS, Costs
from nullscale.scheduling.work import Kind, Phase, Variant
from sr_engine.caps import native_kinds, settle_caps
from sr_engine.metrics import Metrics, PrometheusRecorder
from sr_engine.runner import Runner
from sr_engine.timing import Measured


class ToldTimer:
    """Says that batches took what a function says."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self._seconds = seconds

    def start(self) -> None:
        """Begin with a batch."""

    def stop(self, kind: Kind, rows: int) -> list[Measured]:
        """End it."""
        return [(kind, rows, self._seconds(rows))]


def runner_of(seconds: Callable[[int], float], model: FakeModel | None = None) -> Runner:
    metrics = Metrics(PrometheusRecorder())
    return Runner(model or FakeModel(), Costs(ROW_LIMITS), metrics, ToldTimer(seconds))


def ticks() -> Callable[[], float]:
    """A clock that goes on by a second whenever it is asked."""
    seconds: Iterator[int] = count()
    return lambda: float(next(seconds))


def test_the_kinds_are_those_of_a_picture_of_the_models_own_size() -> None:
    kinds = native_kinds(FakeModel().info)
    assert Kind(Phase.DENOISE, 16, 16) in kinds
    # The autoencoder's tiles are no smaller than 512 px.
    assert Kind(Phase.DECODE, 256, 256) in kinds
    assert Kind(Phase.ENCODE, 256, 256, Variant.DRAFT) in kinds


def test_where_batches_pay_every_cap_goes_to_its_limit() -> None:
    runner = runner_of(lambda rows: 1 + 0.1 * rows)
    caps = settle_caps(runner, 1000, clock=ticks())
    assert all(runner.costs.settled(kind) for kind in caps)
    assert {kind.phase: cap for kind, cap in caps.items()} == ROW_LIMITS


def test_where_batches_hurt_no_cap_grows() -> None:
    caps = settle_caps(runner_of(lambda rows: rows**1.5), 1000, clock=ticks())
    assert set(caps.values()) == {1}


class Narrow(FakeModel):
    """Has room for a few rows of the decoder."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        if len(latents) > self.room:
            raise torch.OutOfMemoryError("no room")
        return super().decode(latents, variant)


@pytest.mark.parametrize("room", [0, 1, 2, 3])
def test_what_does_not_fit_lowers_a_cap_and_is_no_failure(room: int) -> None:
    caps = settle_caps(runner_of(lambda rows: 1 + 0.1 * rows, Narrow(room)), 1000, clock=ticks())
    by_phase = {kind.phase: cap for kind, cap in caps.items()}
    assert by_phase[Phase.DECODE] == max(1, min(room, 2))
    assert by_phase[Phase.DENOISE] == ROW_LIMITS[Phase.DENOISE]


def test_the_budget_ends_it_and_the_kinds_share_it() -> None:
    model = FakeModel()
    settle_caps(runner_of(lambda rows: 1 + 0.1 * rows, model), 11, clock=ticks())
    names = [name for name, _ in model.calls]
    assert len(names) == 10
    # Base and draft of either direction.
    assert {name: names.count(name) for name in names} == {"denoise": 2, "decode": 4, "encode": 4}
    fresh = FakeModel()
    settle_caps(runner_of(lambda rows: 1.0, fresh), 0, clock=ticks())
    assert fresh.calls == []
