"""Tables of benchmarks, as they stand on the pages."""

import re
from pathlib import Path

import bench_quality
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
    rows = re.findall(
        r"^\| ([a-z ,]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", page, re.M
    )
    found: dict[float, dict[str, dict[str, float]]] = {0.5: {}, 0.9: {}}
    for rule, *figures in rows:
        for share, (short, long) in zip(found, (figures[:2], figures[2:]), strict=True):
            found[share][rule] = {"short": float(short), "long": float(long)}
    assert len(rows) > 3
    assert bench_scheduling.table(found) in page


def test_the_table_of_quality_is_the_pages_own() -> None:
    page = (DOCS / "quality.md").read_text()
    row = re.search(rf"^\| bicubic (?:\|  ){{4}}{5 * FIGURE}\|$", page, re.MULTILINE)
    assert row
    figures = dict(zip(bench_quality.COLUMNS, map(float, row.groups()), strict=True))
    bicubic = {"method": "bicubic", **figures}
    assert page[page.index("| projection |") :].startswith(bench_quality.table([bicubic]) + "\n")
