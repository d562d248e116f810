"""Tables of benchmarks, as they stand on the pages."""

import re
from pathlib import Path

import bench_scheduling
from tables import markdown

FIGURE = r"\| ([\d.]+) "
DOCS = Path(__file__).parents[2] / "docs"


def test_markdown() -> None:
    assert markdown(["a", "b"], [["1", "2"], ["3", ""]]) == (
        "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 |  |"
    )


def test_the_table_of_scheduling_is_the_pages_own() -> None:
    page = (DOCS / "scheduling.md").read_text()
    rows = re.findall(rf"^\| ([a-z ,]+) {4 * FIGURE}\|$", page, re.MULTILINE)
    found: dict[float, dict[str, dict[str, float]]] = {0.5: {}, 0.9: {}}
    for rule, *figures in rows:
        for share, (short, long) in zip(found, (figures[:2], figures[2:]), strict=True):
            found[share][rule] = {"short": float(short), "long": float(long)}
    assert len(rows) > 3
    assert bench_scheduling.table(found) in page
