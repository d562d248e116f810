"""Plots of what load tests have measured. Axes begin at zero, so that what looks flat is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 110
THINGS = {"memory_mb": "memory of its own, MB", "threads": "threads", "files": "open files"}


def plot_soak(found: Mapping[str, Any], path: Path) -> None:
    """Draw what each kind of process holds, and the p95, against time."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    minutes = [(n + 0.5) * found["window_s"] / 60 for n in range(len(found["p95_s"]))]
    skipped = minutes[len(minutes) // 6] - found["window_s"] / 120
    for axes, (thing, words) in zip(panels.flat, THINGS.items(), strict=False):
        for kind, held in found["held"].items():
            axes.plot(minutes, _numbers(held[thing]), label=kind)
        axes.set_ylabel(f"{words}, all of the kind")
    last = panels.flat[-1]
    last.plot(minutes, _numbers(found["p95_s"]), color="black")
    last.set_ylabel("p95 of a plain request, s")
    for axes in panels.flat:
        axes.axvspan(0, skipped, color="0.92", zorder=0)
        _from_zero(axes)
    for axes in panels[-1]:
        axes.set_xlabel("minutes (grey: left out of the slopes)")
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    figure.savefig(path, dpi=DPI)


def plot_load_curve(found: Mapping[str, Any], path: Path) -> None:
    """Draw latency, throughput and batches against the offered load."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    latency, throughput, batches = figure.subplots(1, 3, sharex=True)
    points = found["points"]
    shares = [point["share"] for point in points]
    for name in ("p50", "p95", "p99"):
        values = _numbers(point["latency_s"][name] for point in points)
        latency.plot(shares, values, marker="o", label=name)
    latency.set_ylabel("latency of a picture, s")
    throughput.plot(shares, [p["served_per_s"] for p in points], marker="o", label="served")
    refused = [p["offered_per_s"] * p["refused_share"] for p in points]
    throughput.plot(shares, refused, marker="s", label="refused")
    throughput.axhline(found["capacity_per_s"], color="0.5", linestyle="--", label="capacity")
    throughput.set_ylabel("requests a second")
    for phase in sorted(set().union(*(point["rows"] for point in points))):
        rows = _numbers(point["rows"].get(phase) for point in points)
        batches.plot(shares, rows, marker="o", label=f"rows a batch, {phase}")
    busy = [point["busy_share"] for point in points]
    batches.plot(shares, busy, marker="s", color="black", label="share of time with work")
    batches.set_ylabel("rows a batch; share of time")
    for axes in (latency, throughput, batches):
        axes.axvline(1, color="0.85", zorder=0)
        axes.set_xlabel("offered load, share of capacity")
        axes.legend(fontsize="small")
        _from_zero(axes)
        axes.set_xlim(0)
    figure.savefig(path, dpi=DPI)


def plot_replicas(
    times_s: Sequence[float],
    rates: Sequence[float],
    replicas: Mapping[str, Sequence[int]],
    path: Path,
) -> None:
    """Draw the offered rate, and below it the replicas of each policy, against time.

    Args:
        times_s: at which a rate and a number of replicas begin to hold.
        replicas: by the policies' names.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.step(times_s, rates, where="post", color="black")
    above.set_ylabel("requests a second")
    for name, numbers in replicas.items():
        below.step(times_s, numbers, where="post", label=name)
    below.set_ylabel("replicas")
    below.set_xlabel("seconds")
    below.legend(fontsize="small")
    for axes in (above, below):
        _from_zero(axes)
    figure.savefig(path, dpi=DPI)


def _from_zero(axes: Axes) -> None:
    axes.set_ylim(0)
    axes.grid(alpha=0.3)


def _numbers(values: Any) -> list[float]:
    return [float("nan") if value is None else value for value in values]
