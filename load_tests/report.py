"""Makes the generated pages and plots of the figures in `docs/measurements/`.

    python load_tests/report.py

Load tests and benchmarks leave them there when run with ``--save``. The text is in `*.md.jinja`; no
figure is copied by hand.
"""

from collections.abc import Mapping
from typing import Any

import measurements
import posterior_page
import quality_page
import seed_page
from pages import DOCS, ends, environment
from plots import plot_load_curve, plot_soak

PAGE = DOCS / "load.md"
IMAGES = DOCS / "images"
PAGES = {page.NAME: page for page in (posterior_page, quality_page, seed_page)}
"""Pages beside this one, by the figures that they are made of."""
POLICIES = {
    "bench_autoscaling",
    *(f"bench_autoscaling_cluster_{each}" for each in ("ours", "serve")),
}
"""Figures on a page that is written by hand: a test compares its tables."""
ELSEWHERE = {*PAGES, quality_page.TIMES, *POLICIES}
"""Figures that are on other pages."""
PLOTS = {"soak": plot_soak, "load_curve": plot_load_curve}
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def render(kept: Mapping[str, Any]) -> str:
    """Return the page on load."""
    made = environment()
    made.globals |= {"ends": ends, "steps_after": steps_after}
    here = {name: one for name, one in kept.items() if name not in ELSEWHERE}
    machines = sorted({one["machine"].removesuffix(", CPU") for one in here.values()})
    figures = {name: one["figures"] for name, one in here.items()}
    page = made.get_template("load.md.jinja")
    return page.render(figures, kept=figures, machines=" or ".join(machines))


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
    for name, page in PAGES.items():
        if name in kept:
            page.write()


if __name__ == "__main__":
    main()
