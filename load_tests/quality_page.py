"""Makes `docs/quality.md` of what `bench_quality.py` has measured; its text is a template."""

from collections.abc import Mapping, Sequence
from typing import Any

import measurements
from pages import DOCS, environment, signed
from quality_tables import (
    at_time,
    by_group,
    changes,
    cross,
    ends_of,
    labelled,
    measures,
    named,
    noisy,
    projections,
)

NAME = "quality"
TIMES = "quality_times"
PAGE = DOCS / "quality.md"
Row = Mapping[str, Any]


def write() -> None:
    """Make the page of the figures that are kept."""
    kept = measurements.load()
    if NAME in kept:
        PAGE.write_text(render(kept[NAME], kept.get(TIMES)))


def render(kept: Mapping[str, Any], times: Mapping[str, Any] | None = None) -> str:
    """Return the page.

    Args:
        times: seconds of the methods, where they were measured.
    """
    made = environment()
    made.globals |= {
        "measures": measures,
        "ends_of": ends_of,
        "by_group": by_group,
        "changes": changes,
        "projections": projections,
        "at_time": at_time,
        "cross": cross,
        "noisy": noisy,
        "reached": reached,
        "differences": differences,
        "pictures": pictures,
        "labelled": labelled,
    }
    made.filters["named"] = named
    figures = timed(kept["figures"], times["figures"]["seconds"] if times else {})
    main = [table for table in figures["tables"]["methods"] if table["scale"] == 4]
    dtypes = sorted({table["dtype"] for found in figures["tables"].values() for table in found})
    return made.get_template("quality.md.jinja").render(
        figures,
        main=main[0] if main else None,
        dtypes=dtypes,
        machine=kept["machine"],
        times=times,
    )


def timed(figures: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return the figures with each method's time among its means; None where it was not timed."""
    tables = {
        name: [
            {**table, "rows": [_timed(row, seconds) for row in table["rows"]]} for table in found
        ]
        for name, found in figures["tables"].items()
    }
    return {**figures, "tables": tables}


def pictures(table: Mapping[str, Any], dtypes: Sequence[str]) -> str:
    """Say what a table is of, and in which dtype where tables have several."""
    where = f"{table['crop_px']} px squares from the centres of" if table["crop_px"] else "all of"
    groups = [f"{name} ({count})" for name, count in table["groups"].items()]
    dtype = f", in {table['dtype']}" if len(dtypes) > 1 else ""
    return f"{where} {' and '.join(groups)}{dtype}"


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
                f"least {named(least[key], 2)}",
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
            found.append((words, f"least {named(over, 2)} dB", over[0] > 0))
    exact = total - ours["inexact"]
    found.append(("round trip exact for every picture", f"{exact} of {total}", exact == total))
    for key, words in (("clipped_off_pp", "clipped share"), ("saturation_off_pp", "saturation")):
        if ours[key]:
            within = abs(ours[key][0]) <= 2
            found.append((f"{words} within 2 points", f"most {named(ours[key], 2)}", within))
    return found


def _timed(row: Row, seconds: Mapping[str, float]) -> Row:
    return {**row, "means": {**row["means"], "seconds": seconds.get(row["label"])}}


def _has(row: Row, params: Row) -> bool:
    return all(row["params"].get(name) == value for name, value in params.items())
