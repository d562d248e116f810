"""The figures of a run, on runs whose figures are known."""

import pytest
from bench_autoscaling import _back_s, _grown_again


@pytest.mark.parametrize(
    ("over", "back_s"),
    [
        ([False] * 5, 0.0),
        ([False, True, True, False, True, False], 3.0),
        ([True, True, True], 2.0),
        ([True, False, False], 1.0),
    ],
)
def test_from_the_change_until_the_wait_is_first_back(over: list[bool], back_s: float) -> None:
    assert _back_s([(300.0 + second, late) for second, late in enumerate(over)]) == back_s


@pytest.mark.parametrize(
    ("wanted", "again"),
    [
        ([1, 1], 0),
        ([1, 8, 20, 32], 0),
        ([1, 32, 32, 15, 14], 0),
        ([1, 32, 15, 14, 20, 19, 21], 8),
    ],
)
def test_growth_counts_after_some_were_let_go(wanted: list[int], again: int) -> None:
    assert _grown_again(wanted) == again
