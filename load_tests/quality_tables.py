"""Tables of the page on quality, from the rows that are kept."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pages import fixed, signed
from quality_measures import COLUMNS, Column
from tables import markdown

CROSS_HEADS = {
    "projection": "projection",
    "num_inference_steps": "steps",
    "eta": "η",
    "guidance_strength": "λ",
}
OF_GROUPS = ("psnr_y", "ssim_y", "ssimulacra2")

LEFT_OUT = ("ms_ssim_y", "exact_share", "consistency_db")
"""Of long tables: their pictures are too small for the one, and almost all exact."""

Row = Mapping[str, Any]


def labelled(table: Mapping[str, Any]) -> dict[str, Row]:
    """Return a table's rows by their names."""
    return {row["label"]: row for row in table["rows"]}


def measures(table: Mapping[str, Any]) -> str:
    """Return the means of every row."""
    columns = _columns(table["rows"], leave_out=())
    rows = ([row["label"], *_means(row, columns)] for row in table["rows"])
    return markdown(["", *(c.head for c in columns)], rows)


def ends_of(table: Mapping[str, Any]) -> str:
    """Return the worst that each method does to any picture."""
    heads = ["", "PSNR-Y over bicubic, dB", "SSIMULACRA2 over bicubic", "not exact"]
    rows = []
    for row in table["rows"]:
        least, total = row["least_gain"], sum(table["groups"].values())
        rows.append(
            [
                row["label"],
                *(named(least[key], 2) for key in ("psnr_y", "ssimulacra2")),
                f"{row['inexact']} of {total}",
                named(row["clipped_off_pp"], 2),
                named(row["saturation_off_pp"], 2),
            ]
        )
    return markdown([*heads, "clipped, pp", "saturation, pp"], rows)


def by_group(table: Mapping[str, Any]) -> str:
    """Return the measures that papers give, of each set."""
    columns = [c for c in COLUMNS if c.key in OF_GROUPS]
    heads = [f"{group}, {c.head}" for group in table["groups"] for c in columns]
    rows = (
        [
            row["label"],
            *(fixed(row["groups"][g][c.key], c.digits) for g in table["groups"] for c in columns),
        ]
        for row in table["rows"]
    )
    return markdown(["", *heads], rows)


def changes(table: Mapping[str, Any]) -> str:
    """Return rows of changed parameters, with what each gains and costs against `balanced`."""
    base = labelled(table)["balanced"]["means"]
    columns = _columns(table["rows"], leave_out=LEFT_OUT)
    rows = []
    for row in table["rows"]:
        means = row["means"]
        rows.append(
            [
                f"{row['label']} (the default)" if row["is_default"] else row["label"],
                *_means(row, columns),
                signed(means["psnr_y"] - base["psnr_y"], 2),
                fixed(_over(means.get("seconds"), base.get("seconds")), 2),
                str(row["inexact"]),
            ]
        )
    return markdown(["", *(c.head for c in columns), "Δ dB", "time", "not exact"], rows)


def projections(table: Mapping[str, Any]) -> str:
    """Return the projections side by side: for each, quality and seconds at growing steps."""
    found: dict[int, dict[str, Row]] = {}
    for row in table["rows"]:
        params = row["params"]
        found.setdefault(params["num_inference_steps"], {})[params["projection"]] = row["means"]
    names = list(dict.fromkeys(row["params"]["projection"] for row in table["rows"]))
    heads = [f"`{name}`, {what}" for name in names for what in ("s", "PSNR-Y", "SSIMULACRA2")]
    rows = (
        [
            str(steps),
            *(
                fixed(of[name].get(key), 2) if name in of else ""
                for name in names
                for key in ("seconds", "psnr_y", "ssimulacra2")
            ),
        ]
        for steps, of in found.items()
    )
    return markdown(["steps", *heads], rows)


def at_time(table: Mapping[str, Any], seconds: float) -> dict[str, list[str]]:
    """Return what each projection reaches in so many seconds, between its numbers of steps.

    PSNR-Y and SSIMULACRA2; dashes where the fewest steps take longer.
    """
    found: dict[str, list[Row]] = {}
    for row in table["rows"]:
        found.setdefault(row["params"]["projection"], []).append(row["means"])
    reached = {}
    for name, means in found.items():
        means.sort(key=lambda one: one["seconds"])
        times = [one["seconds"] for one in means]
        values = (
            [float(np.interp(seconds, times, [one[key] for one in means])), seconds >= times[0]]
            for key in ("psnr_y", "ssimulacra2")
        )
        reached[name] = [fixed(value if there else None, 2) for value, there in values]
    return reached


def cross(table: Mapping[str, Any]) -> str:
    """Return every combination; a single step knows no projection and no η."""
    columns = _columns(table["rows"], leave_out=("ms_ssim_y", "consistency_db"))
    rows = []
    for row in table["rows"]:
        cells = [str(row["params"].get(key, "")) for key in CROSS_HEADS]
        if not row["params"]:
            cells[0] = row["label"]
        elif row["params"]["num_inference_steps"] == 1:
            cells[0] = cells[2] = "any"
        rows.append([*cells, *_means(row, columns)])
    return markdown([*CROSS_HEADS.values(), *(c.head for c in columns)], rows)


def noisy(table: Mapping[str, Any]) -> str:
    """Return what becomes of damaged inputs, PSNR-Y and SSIMULACRA2, and the σ_y guessed."""
    ways = {"bicubic": "bicubic", "balanced": "`balanced`", "given": "σ_y given"}
    ways["estimated"] = "σ_y estimated"
    found: dict[str, dict[str, Row]] = {}
    for row in table["rows"]:
        damage, _, way = row["label"].rpartition(": ")
        if damage:
            found.setdefault(damage, {})[way] = row["means"]
    rows = (
        [
            damage,
            *(
                f"{fixed(of[way]['psnr_y'], 2)}, {fixed(of[way]['ssimulacra2'], 1)}"
                if way in of
                else ""
                for way in ways
            ),
            fixed(of["estimated"].get("sigma_y"), 3) if "estimated" in of else "",
        ]
        for damage, of in found.items()
    )
    return markdown(["input", *ways.values(), "estimate"], rows)


def named(found: Sequence[Any] | None, digits: int) -> str:
    """Return a value and the picture that has it."""
    return "–" if found is None else f"{signed(found[0], digits)} ({found[1].rpartition('/')[2]})"


def _over(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _columns(rows: Sequence[Row], leave_out: Iterable[str]) -> list[Any]:
    return [
        column
        for column in COLUMNS
        if column.key not in leave_out
        and any(row["means"].get(column.key) is not None for row in rows)
    ]


def _means(row: Row, columns: Iterable[Any]) -> list[str]:
    return [_shown(row["means"].get(column.key), column) for column in columns]


def _shown(value: float | None, column: Column) -> str:
    if value is not None and column.key == "exact_share":
        # 1 is for all of it.
        value = math.floor(value * 10**column.digits) / 10**column.digits
    return fixed(value, column.digits)
