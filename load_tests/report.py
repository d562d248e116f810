"""Makes `docs/load.md` and its plots of the figures in `docs/measurements/`.

    python load_tests/report.py

The load tests leave them there when run with ``--save``. The text is in `load.md.jinja`; no figure
is copied by hand.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import measurements
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plots import plot_load_curve, plot_soak

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "load.md"
IMAGES = PAGE.parent / "images"
PLOTS = {"soak": plot_soak, "load_curve": plot_load_curve}
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def render(kept: Mapping[str, Any]) -> str:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"fixed": fixed, "thousands": lambda number: f"{number:,}"}
    environment.globals |= {"ends": ends, "steps_after": steps_after}
    machines = sorted({one["machine"].removesuffix(", CPU") for one in kept.values()})
    figures = {name: one["figures"] for name, one in kept.items()}
    page = environment.get_template("load.md.jinja")
    return page.render(figures, kept=figures, machines=" or ".join(machines))


def fixed(value: float | None, digits: int) -> str:
    """Return a number with so many digits, a dash for none; a half is rounded up."""
    if value is None:
        return "–"
    return str(Decimal(str(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def ends(values: Sequence[float]) -> str:
    """Return the first and the last of a series."""
    return f"{fixed(values[0], 0)}, {fixed(values[-1], 0)}"


def steps_after(left: Mapping[str, Any]) -> str:
    """Say how many steps were begun for pictures whose clients had left."""
    most, pictures = left["steps_after"]["max"], left["reached"]
    if most <= 1:
        some = round(left["steps_after"]["mean"] * pictures)
        return f"one, for {_words(some)} of {pictures} pictures" if most else "none"
    return f"{_words(most)} at most, {left['steps_after']['mean']} on average"


def _words(number: int) -> str:
    return NUMBERS[number] if number < len(NUMBERS) else str(number)


def main() -> None:
    kept = measurements.load()
    for name, plot in PLOTS.items():
        if name in kept:
            plot(kept[name]["figures"], IMAGES / f"{name.replace('_', '-')}.png")
    PAGE.write_text(render(kept))


if __name__ == "__main__":
    main()
