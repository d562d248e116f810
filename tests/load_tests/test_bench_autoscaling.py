"""The figures of a run, on runs whose figures are known; the page has those that are kept."""

import measurements
import pytest
from bench_autoscaling import Figures, _back_s, _grown_again, table
from pages import DOCS

PAGE = (DOCS / "autoscaling.md").read_text()
KEPT = {name: kept["figures"] for name, kept in measurements.load().items()}


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


def test_the_table_of_the_simulation_is_on_the_page() -> None:
    figures = KEPT["bench_autoscaling"]["figures"]
    assert (
        table({name: [Figures(**one) for one in every] for name, every in figures.items()}) in PAGE
    )


@pytest.mark.parametrize(("policy", "name"), [("ours", "ours"), ("serve", "Serve's")])
def test_the_table_of_the_cluster_is_on_the_page(policy: str, name: str) -> None:
    found = KEPT[f"bench_autoscaling_cluster_{policy}"]
    row = [
        name,
        f"{found['back_s']} s",
        f"{found['over_s']} s",
        f"{found['replica_h']:.3f}",
        str(found["most"]),
        f"{found['p95_s']} s",
        f"{found['lost']} of {found['requests']}",
    ]
    assert f"| {' | '.join(row)} |" in PAGE
