"""Makes `docs/posterior.md` of what `bench_posterior.py` has found; its text is a template."""

from collections.abc import Mapping, Sequence
from typing import Any

import measurements
from pages import DOCS, environment, fixed
from tables import markdown

NAME = "posterior"
PAGE = DOCS / "posterior.md"
HEADS = (
    "distance",
    "variance unseen",
    "PSNR of one sample",
    "of the mean of 8",
    "of the mean of all",
)

SAID = {"steps": "steps", "eta": "η", "rederive": "`rederive`", "spacing": "`sigma_spacing`"}

WAYS = ("ignored", "ddnm_plus", "levels", "measured_levels")

Row = Mapping[str, Any]


def write() -> None:
    """Make the page of the figures that are kept."""
    PAGE.write_text(render(measurements.load()[NAME]))


def render(kept: Mapping[str, Any]) -> str:
    """Return the page."""
    made = environment()
    made.globals |= {"listed": listed, "grid": grid, "walks": walks, "noisy": noisy, "one": one}
    return made.get_template("posterior.md.jinja").render(kept["figures"])


def one(rows: Sequence[Row], **which: Any) -> Row:
    """Return the row that has these values."""
    (found,) = (row for row in rows if all(row[name] == value for name, value in which.items()))
    return found


def listed(rows: Sequence[Row], *said: str) -> str:
    """Return every figure of every row, after what is said of it."""
    heads = [SAID.get(name, "") for name in said]
    cells = ([*(_plain(row[name]) for name in said), *_figures(row)] for row in rows)
    return markdown([*heads, *HEADS], cells)


def grid(rows: Sequence[Row], down: str, across: str, label: str) -> str:
    """Return the distances, and in brackets the PSNR of one sample, by two parameters."""
    columns = list(dict.fromkeys(row[across] for row in rows))
    lines: dict[Any, list[str]] = {}
    for row in rows:
        lines.setdefault(row[down], []).append(_short(row))
    heads = [f"{label} {_plain(value)}" for value in columns]
    return markdown(["", *heads], ([_plain(name), *cells] for name, cells in lines.items()))


def walks(rows: Sequence[Row]) -> str:
    """Return the distances of the walks, for each η."""
    etas = list(dict.fromkeys(row["eta"] for row in rows))
    lines: dict[tuple[int, str], list[str]] = {}
    for row in rows:
        steps, length, repeats = row["walk"]
        said = f"{steps} levels, by {length}, {repeats} times" if length else f"{steps} levels"
        lines.setdefault((row["denoising"], said), []).append(_short(row))
    heads = ["denoising steps", "walk", *(f"η = {_plain(eta)}" for eta in etas)]
    return markdown(heads, ([str(n), said, *cells] for (n, said), cells in lines.items()))


def noisy(rows: Sequence[Row]) -> str:
    """Return the figures of noisy measurements, each in every way to allow for the noise."""
    lines = []
    for row in rows:
        ways = zip(*(_figures(row[way]) for way in WAYS), strict=True)
        lines.append([_plain(row["sigma_y"]), row["of"], *(" / ".join(way) for way in ways)])
    return markdown(["σ_y", "sampler", *HEADS], lines)


def _figures(row: Row) -> list[str]:
    cells = [fixed(row["distance"], 2), fixed(row["null_share"], 2)]
    return cells + [fixed(psnr_db, 2) for psnr_db in row["psnr_db"]]


def _short(row: Row) -> str:
    return f"{fixed(row['distance'], 2)} ({fixed(row['psnr_db'][0], 2)})"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
