"""The routing study: both rules under the very same load, and a table of them."""

import bench_routing
import pytest


def test_the_load_is_that_share_of_all_gpus() -> None:
    load = bench_routing.arrivals(4000, gpus=8, load=0.8, short_share=0.9, seed=1)
    work_s = sum(arrival.work_s for arrival in load)
    assert work_s / load[-1].at_s / 8 == pytest.approx(0.8, rel=0.1)


def test_both_rules_are_compared() -> None:
    found = bench_routing.compare(12, gpus=3, load=0.5, short_share=0.9, seeds=1)
    assert set(found) == set(bench_routing.ROUTES)
    for times in found.values():
        assert 0 < times["short mean"] <= times["long p95"]
    lines = bench_routing.table({0.9: found}).splitlines()
    assert len(lines) == 2 + len(found)
    assert len({line.count("|") for line in lines}) == 1
