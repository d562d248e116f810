"""Plots show what they are given, on axes that begin at zero."""

from pathlib import Path
from typing import Any

import numpy as np
import plots
import pytest
from matplotlib.figure import Figure
from PIL import Image

SOAK = {
    "window_s": 60.0,
    "p95_s": [0.5, None, *[0.6] * 28],
    "held": {
        kind: {thing: [float(n)] * 30 for thing in plots.THINGS}
        for n, kind in enumerate(("proxy", "jobs"), 2)
    },
}
CURVE = {
    "capacity_per_s": 2.25,
    "points": [
        {
            "share": share,
            "offered_per_s": 2.25 * share,
            "served_per_s": min(2.25 * share, 2.2),
            "refused_share": max(0.0, 1 - 1 / share),
            "latency_s": {"p50": 0.5, "p95": 1.0, "p99": share},
            "rows": {"denoise": 1.0} if share > 0.3 else {},
            "busy_share": min(share, 1),
        }
        for share in (0.2, 0.6, 1.2)
    ],
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    figures: list[Figure] = []
    savefig = Figure.savefig

    def kept(self: Figure, *args: Any, **options: Any) -> None:
        figures.append(self)
        savefig(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", kept)
    return figures


def check(drawn: list[Figure], path: Path) -> Figure:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 5
    (figure,) = drawn
    for axes in figure.axes:
        assert axes.get_ylim()[0] == 0
        assert axes.get_ylabel()
    return figure


def test_a_soak(tmp_path: Path, drawn: list[Figure]) -> None:
    plots.plot_soak(SOAK, tmp_path / "soak.png")
    figure = check(drawn, tmp_path / "soak.png")
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 2, 1]
    np.testing.assert_equal(figure.axes[3].lines[0].get_ydata()[:3], [0.5, np.nan, 0.6])


def test_a_load_curve(tmp_path: Path, drawn: list[Figure]) -> None:
    plots.plot_load_curve(CURVE, tmp_path / "curve.png")
    latency, throughput, batches = check(drawn, tmp_path / "curve.png").axes
    assert {line.get_label() for line in latency.lines} >= {"p50", "p95", "p99"}
    served, refused, *_ = throughput.lines
    np.testing.assert_allclose(served.get_ydata(), [0.45, 1.35, 2.2])
    np.testing.assert_allclose(refused.get_ydata(), [0, 0, 0.45])
    np.testing.assert_equal(batches.lines[0].get_ydata(), [np.nan, 1, 1])


def test_replicas_over_time(tmp_path: Path, drawn: list[Figure]) -> None:
    plots.plot_replicas([0, 10, 20], [1, 20, 1], {"ours": [1, 8, 2]}, tmp_path / "replicas.png")
    _, below = check(drawn, tmp_path / "replicas.png").axes
    assert below.lines[0].get_drawstyle() == "steps-post"
