"""Makes `docs/quality.md` of what `bench_quality.py` has measured; its text is a template."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import measurements
import numpy as np
from pages import DOCS, environment, fixed, signed
from quality_measures import COLUMNS
from tables import markdown

NAME = "quality"
PAGE = DOCS / "quality.md"
CROSS_HEADS = {
    "projection": "projection",
    "num_inference_steps": "steps",
    "eta": "η",
    "guidance_strength": "λ",
}
OF_GROUPS = ("psnr_y", "ssim_y", "ssimulacra2")

Row = Mapping[str, Any]


def write() -> None:
    """Make the page of the figures that are kept."""
    PAGE.write_text(render(measurements.load()[NAME]))


def render(kept: Mapping[str, Any]) -> str:
    """Return the page."""
    made = environment()
    made.globals |= {
        "measures": measures,
        "ends_of": ends_of,
        "by_group": by_group,
        "changes": changes,
        "projections": projections,
        "at_time": at_time,
        "cross": cross,
        "reached": reached,
        "differences": differences,
        "pictures": pictures,
        "labelled": labelled,
    }
    figures = kept["figures"]
    main = [table for table in figures["tables"]["methods"] if table["scale"] == 4]
    return made.get_template("quality.md.jinja").render(
        figures, main=main[0] if main else None, machine=kept["machine"]
    )


def pictures(table: Mapping[str, Any]) -> str:
    """Say what a table is of."""
    where = f"{table['crop_px']} px squares from the centres of" if table["crop_px"] else "all of"
    groups = [f"{name} ({count})" for name, count in table["groups"].items()]
    return f"{where} {' and '.join(groups)}"


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
                *(_named(least[key], 2) for key in ("psnr_y", "ssimulacra2")),
                f"{row['inexact']} of {total}",
                _named(row["clipped_off_pp"], 2),
                _named(row["saturation_off_pp"], 2),
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
    columns = _columns(table["rows"], leave_out=("ms_ssim_y", "exact_share", "consistency_db"))
    rows = []
    for row in table["rows"]:
        means = row["means"]
        rows.append(
            [
                f"{row['label']} (the default)" if row["is_default"] else row["label"],
                *_means(row, columns),
                signed(means["psnr_y"] - base["psnr_y"], 2),
                fixed(means["seconds"] / base["seconds"], 2),
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
                fixed(of[name][key], 2) if name in of else ""
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
    columns = _columns(table["rows"], leave_out=("ms_ssim_y", "exact_share", "consistency_db"))
    rows = []
    for row in table["rows"]:
        cells = [str(row["params"].get(key, "")) for key in CROSS_HEADS]
        if not row["params"]:
            cells[0] = row["label"]
        elif row["params"]["num_inference_steps"] == 1:
            cells[0] = cells[2] = "any"
        rows.append([*cells, *_means(row, columns)])
    return markdown([*CROSS_HEADS.values(), *(c.head for c in columns)], rows)


def differences(
    table: Mapping[str, Any], key: str, one: Row, other: Row, digits: int = 2
) -> str | None:
    """Return how far a measure of the cross's rows with ``one`` is above those with ``other``.

    Of all pairs that agree in the rest, from the least to the most; None where there is no pair.
    """
    rows = [row for row in table["rows"] if row["params"]]
    found = [
        a["means"][key] - b["means"][key]
        for a in rows
        for b in rows
        if _has(a, one) and _has(b, other) and {**a["params"], **other} == b["params"]
    ]
    if not found:
        return None
    low, high = signed(min(found), digits), signed(max(found), digits)
    return low if low == high else f"{low} to {high}"


def reached(table: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Return what was aimed at, what was found, and whether it is reached."""
    rows, total = labelled(table), sum(table["groups"].values())
    ours, plain = rows["balanced"], rows["bicubic"]
    gain = ours["means"]["psnr_y"] - plain["means"]["psnr_y"]
    least = ours["least_gain"]
    found = [
        ("mean PSNR-Y over bicubic, at least 1 dB", f"{signed(gain, 2)} dB", gain >= 1),
        *(
            (
                f"{words} above bicubic for every picture",
                f"least {_named(least[key], 2)}",
                least[key][0] > 0,
            )
            for key, words in (("psnr_y", "PSNR-Y"), ("ssimulacra2", "SSIMULACRA2"))
        ),
    ]
    for label, row in rows.items():
        if row["params"].get("num_inference_steps", 0) >= 4 and label.startswith("faithful"):
            over = [ours["means"][k] - row["means"][k] for k in ("psnr_y", "ssimulacra2")]
            found.append(
                (
                    f"both means above {label}",
                    f"{signed(over[0], 2)} dB, {signed(over[1], 2)}",
                    min(over) > 0,
                )
            )
    for label, row in rows.items():
        if "over_best_single_db" in row:
            over = row["over_best_single_db"]
            words = f"{label}: above the best of them, for every picture"
            found.append((words, f"least {_named(over, 2)} dB", over[0] > 0))
    exact = total - ours["inexact"]
    found.append(("round trip exact for every picture", f"{exact} of {total}", exact == total))
    for key, words in (("clipped_off_pp", "clipped share"), ("saturation_off_pp", "saturation")):
        if ours[key]:
            within = abs(ours[key][0]) <= 2
            found.append((f"{words} within 2 points", f"most {_named(ours[key], 2)}", within))
    return found


def _columns(rows: Sequence[Row], leave_out: Iterable[str]) -> list[Any]:
    return [
        column
        for column in COLUMNS
        if column.key not in leave_out
        and any(row["means"].get(column.key) is not None for row in rows)
    ]


def _means(row: Row, columns: Iterable[Any]) -> list[str]:
    return [fixed(row["means"].get(column.key), column.digits) for column in columns]


def _named(found: Sequence[Any] | None, digits: int) -> str:
    """A value and the picture that has it."""
    return "–" if found is None else f"{signed(found[0], digits)} ({found[1].rpartition('/')[2]})"


def _has(row: Row, params: Row) -> bool:
    return all(row["params"].get(name) == value for name, value in params.items())
