"""The page on load is what the kept figures say, and changes when they do."""

import copy
import json
from pathlib import Path

import measurements
import pages
import pytest
import report
import soak
from holdings import Sample

KEPT = {k: v for k, v in measurements.load().items() if k not in report.ELSEWHERE}


def test_the_page_is_made_of_the_figures_that_are_kept() -> None:
    assert report.PAGE.read_text() == report.render(KEPT)


@pytest.mark.parametrize("name", KEPT)
def test_each_of_them_is_on_the_page(name: str) -> None:
    assert f"python load_tests/{name}.py" in report.render(KEPT)


def test_another_figure_makes_another_page() -> None:
    other = copy.deepcopy(KEPT)
    other["overload"]["figures"]["capacity_per_s"] = 123.456
    other["disconnects"]["figures"]["job"]["steps_after"] = {"max": 1, "mean": 0.1}
    other["disconnects"]["figures"]["job"]["reached"] = 20
    other["slow_bodies"]["machine"] = "seven cores, CPU"
    page = report.render(other)
    assert "what it can do: 123.46 pictures a second" in page
    assert "| one, for two of 20 pictures |" in page
    assert "All are of seven cores or two cores." in page


def test_halves_are_rounded_up() -> None:
    assert [pages.fixed(value, 0) for value in (0.5, 1.5, 2.5, 2.4)] == ["1", "2", "3", "2"]
    assert pages.fixed(1.005, 2) == "1.01"
    assert pages.fixed(-0.004, 2) == "0.00"
    assert pages.fixed(None, 2) == "–"


def test_signs_are_told_but_of_nothing() -> None:
    assert [pages.signed(value, 1) for value in (0.25, -0.25, 0.04, -0.04)] == [
        "+0.3",
        "−0.3",
        "0.0",
        "0.0",
    ]


def test_figures_are_kept_and_found_again(tmp_path: Path) -> None:
    measurements.save("some_test", {"σ": [1, None]}, tmp_path)
    assert json.loads((tmp_path / "some_test.json").read_text())["figures"] == {"σ": [1, None]}
    (kept,) = measurements.load(tmp_path).values()
    assert kept["machine"].endswith("CPU")


def test_sections_come_with_their_figures() -> None:
    at_s = [10.0 * n for n in range(3 * soak.WINDOWS)]
    held = {kind: {"threads": 40, "files": 80, "memory_mb": 400} for kind in ("proxy", "jobs")}
    ends = [soak.End(form, t, t + 0.25, "") for t in at_s for form in soak.FORMS]
    found = soak.figures(ends, [Sample(t, held) for t in at_s], 30.0 * soak.WINDOWS)
    page = report.render({**KEPT, "soak": {"machine": "two cores, CPU", "figures": found}})
    assert "python load_tests/soak.py" in page
    assert "| p95, s | 0.00 |" in page
    assert page.count("| flat |") == 7
    assert "90 plain ones" in page
