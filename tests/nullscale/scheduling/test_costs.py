"""Costs follow what was measured, and caps what pays."""

import random
from collections.abc import Callable

import pytest

from nullscale.scheduling.costs import Costs
from nullscale.scheduling.work import Kind, Phase

LIMITS = {Phase.DENOISE: 8, Phase.DECODE: 4, Phase.ENCODE: 4}
KIND = Kind(Phase.DENOISE, 16, 16)


def trained(seconds: Callable[[int], float], kind: Kind = KIND) -> Costs:
    costs = Costs(LIMITS)
    for _ in range(40):
        rows = costs.cap(kind)
        costs.observe(kind, rows, seconds(rows))
    return costs


def test_a_cap_grows_to_its_limit_where_rows_share() -> None:
    assert trained(lambda rows: 1 + 0.1 * rows).cap(KIND) == 8


def test_a_cap_stays_where_batching_hurts() -> None:
    costs = trained(lambda rows: rows**1.5)
    assert costs.cap(KIND) == 1
    assert costs.row_s(KIND) == 1


def test_a_cap_stops_where_further_rows_no_longer_pay() -> None:
    assert trained(lambda rows: 1.0 if rows <= 2 else float(rows)).cap(KIND) == 2


def test_out_of_memory_lowers_a_cap_for_good() -> None:
    costs = trained(lambda rows: 1 + 0.1 * rows)
    costs.out_of_memory(KIND, 8)
    for _ in range(20):
        costs.observe(KIND, costs.cap(KIND), 1.0)
    assert costs.cap(KIND) == 4
    for rows in (4, 2, 1, 1):
        costs.out_of_memory(KIND, rows)
    assert costs.cap(KIND) == 1


def test_one_slow_batch_changes_nothing() -> None:
    costs = Costs(LIMITS)
    for seconds in (60.0, 1.0, 1.0, 1.0):
        costs.observe(KIND, 1, seconds)
    assert costs.batch_s(KIND, 1) == 1


def test_noise_does_not_settle_a_cap_wrongly() -> None:
    rng = random.Random(1)
    caps = [
        trained(lambda rows: (1 + rows) * (1 + 0.2 * rng.random())).cap(KIND) for _ in range(100)
    ]
    assert caps.count(8) > 60


def test_a_verdict_is_reconsidered() -> None:
    costs = trained(lambda rows: rows**1.5)
    for _ in range(1500):
        costs.observe(KIND, costs.cap(KIND), 1.0)
    assert costs.cap(KIND) == 8


def test_a_tiny_warm_up_makes_large_tiles_look_no_dearer_than_the_largest_seen() -> None:
    costs = Costs(LIMITS)
    costs.observe(Kind(Phase.DENOISE, 2, 2), 1, 0.02)
    costs.observe(Kind(Phase.DENOISE, 64, 64), 1, 0.02)
    assert costs.batch_s(Kind(Phase.DENOISE, 128, 128), 1) == pytest.approx(0.08)


def test_unseen_sizes_and_shapes_are_scaled_from_seen_ones() -> None:
    costs = Costs(LIMITS)
    costs.observe(KIND, 2, 3.0)
    assert costs.batch_s(KIND, 6) == 9
    assert costs.batch_s(Kind(Phase.DENOISE, 8, 16), 2) == pytest.approx(1.5)
    assert costs.batch_s(Kind(Phase.DECODE, 8, 16), 1) > 0


def test_a_limit_on_rows_can_be_set_and_taken_back() -> None:
    costs = trained(lambda rows: 1 + 0.1 * rows)
    costs.limit(3)
    assert costs.cap(KIND) == 3
    for _ in range(2000):
        costs.observe(KIND, costs.cap(KIND), 1.3)
    assert costs.cap(KIND) == 3
    costs.limit(16)
    # No more than the phase's own limit, nor than it had found to pay.
    assert costs.cap(KIND) == 8


@pytest.mark.parametrize(("former", "cap"), [(1, 1), (2, 2), (3, 2)])
def test_an_engine_that_began_under_a_limit_outgrows_it_at_once(former: int, cap: int) -> None:
    costs = Costs(LIMITS)
    costs.limit(former)
    for _ in range(40):
        costs.observe(KIND, costs.cap(KIND), 1 + 0.1 * costs.cap(KIND))
    assert costs.cap(KIND) == cap
    costs.limit(16)
    # A few batches of each size that is new.
    for _ in range(20):
        costs.observe(KIND, costs.cap(KIND), 1 + 0.1 * costs.cap(KIND))
    assert costs.cap(KIND) == 8


def test_a_higher_limit_makes_batches_pay_no_better() -> None:
    costs = Costs(LIMITS)
    costs.limit(4)
    for _ in range(40):
        costs.observe(KIND, costs.cap(KIND), costs.cap(KIND) ** 1.5)
    costs.limit(16)
    for _ in range(40):
        assert costs.cap(KIND) == 1
        costs.observe(KIND, 1, 1.0)
