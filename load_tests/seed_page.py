"""Makes `docs/seed.md` and its curves of what `seed_figures.py` has found."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import measurements
from matplotlib.figure import Figure
from pages import DOCS, environment, fixed
from tables import markdown

NAME = "seed"
PAGE = DOCS / "seed.md"
KEYS = {
    "clipped_share": "clipped share, %",
    "deviation": "high-frequency deviation",
    "chroma_ratio": "chroma ratio",
}
SWEEPS = {"steps": ("steps", "strength", 1.0), "1": ("strength", "steps", 1)}
SWEEPS["8"] = ("strength", "steps", 8)
MODERATE = (0.7, 0.8, 0.9)
DPI = 110

Run = Mapping[str, Any]
Picture = Mapping[str, Any]


def write() -> None:
    """Make the page of the figures that are kept."""
    PAGE.write_text(render(measurements.load()[NAME]))


def render(kept: Mapping[str, Any]) -> str:
    """Return the page."""
    made = environment()
    made.globals |= {"table": table, "findings": findings, "sweep": sweep}
    return made.get_template("seed.md.jinja").render(kept["figures"], machine=kept["machine"])


def sweep(picture: Picture, projection: str, name: str) -> list[Run]:
    """Return the runs along one curve, in order: varying steps, or λ at 1 or at 8 steps."""
    varied, held, value = SWEEPS[name]
    runs = [r for r in picture["runs"] if r["projection"] == projection and r[held] == value]
    return sorted(runs, key=lambda run: run[varied])


def table(pictures: Sequence[Picture], name: str) -> str:
    """Return the measures along one curve, for all pictures and projections."""
    varied = SWEEPS[name][0]
    rows = []
    for picture in pictures:
        for label in ("truth", "bicubic"):
            rows.append([picture["name"], label, "", *_cells(picture[label])])
        for projection in ("latent", "residual"):
            for run in sweep(picture, projection, name):
                rows.append([picture["name"], f"`{projection}`", f"{run[varied]:g}", *_cells(run)])
    heads = ["picture", "", "steps" if varied == "steps" else "λ", *KEYS.values()]
    return markdown(heads, rows)


def findings(pictures: Sequence[Picture]) -> Iterator[tuple[str, list[str]]]:
    """Yield what the seed repository found, and of each projection in how many cases it holds."""
    for words, holds in CLAIMS.items():
        cells = []
        for projection in ("latent", "residual"):
            cases = [case for picture in pictures for case in holds(picture, projection)]
            cells.append(_verdict(sum(cases), len(cases)))
        yield words, cells


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Draw each measure against steps and λ; truth and bicubic are lines across."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    panels = figure.subplots(len(KEYS), len(SWEEPS), sharex="col", sharey="row")
    titles = {"steps": "λ = 1", "1": "1 step", "8": "8 steps"}
    for row, (key, words) in zip(panels, KEYS.items(), strict=True):
        unit = 100 if key == "clipped_share" else 1
        row[0].set_ylabel(words)
        for axes, name in zip(row, SWEEPS, strict=True):
            varied = SWEEPS[name][0]
            for number, picture in enumerate(found["pictures"]):
                colour = f"C{number}"
                for projection, style in (("latent", "-o"), ("residual", "--s")):
                    runs = sweep(picture, projection, name)
                    values = [_number(run[key]) * unit for run in runs]
                    label = f"{picture['name']}, {projection}"
                    axes.plot([r[varied] for r in runs], values, style, color=colour, label=label)
                for label, style in (("truth", "-."), ("bicubic", ":")):
                    axes.axhline(
                        _number(picture[label][key]) * unit,
                        color=colour,
                        linestyle=style,
                        linewidth=1,
                        label=f"{picture['name']}, {label}",
                    )
            axes.grid(alpha=0.3)
            if varied == "steps":
                axes.set_xticks([run["steps"] for run in runs])
        # The row's axes are one: their upper end is found when all is drawn.
        row[0].set_ylim(0)
    for axes, name in zip(panels[0], SWEEPS, strict=True):
        axes.set_title(titles[name])
    for axes, name in zip(panels[-1], SWEEPS, strict=True):
        axes.set_xlabel("steps" if SWEEPS[name][0] == "steps" else "λ")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize="small")
    figure.savefig(path, dpi=DPI)


def _above_bicubic(key: str) -> Any:
    def holds(picture: Picture, projection: str) -> list[bool]:
        plain = picture["bicubic"][key]
        return [run[key] > plain for run in sweep(picture, projection, "steps")]

    return holds


def _first_highest(picture: Picture, projection: str) -> list[bool]:
    """Whether a single step clips more than any more of them."""
    shares = [run["clipped_share"] for run in sweep(picture, projection, "steps")]
    return [shares[0] > max(shares[1:])]


def _moderate(key: str) -> Any:
    """Whether λ of 0.7 to 0.9 has less of it than λ = 1."""

    def holds(picture: Picture, projection: str) -> list[bool]:
        found = []
        for name in ("1", "8"):
            at = {run["strength"]: run[key] for run in sweep(picture, projection, name)}
            found += [at[strength] < at[1.0] for strength in MODERATE]
        return found

    return holds


def _beyond(key: str) -> Any:
    """Whether λ = 1.2 has more of it than λ = 1."""

    def holds(picture: Picture, projection: str) -> list[bool]:
        curves = (sweep(picture, projection, name) for name in ("1", "8"))
        found = [{run["strength"]: run[key] for run in runs} for runs in curves]
        return [at[1.2] > at[1.0] for at in found]

    return holds


def _smooth(picture: Picture, projection: str) -> list[bool]:
    """Whether λ = 0 has fewer high frequencies than λ = 1."""
    curves = (sweep(picture, projection, name) for name in ("1", "8"))
    found = [{run["strength"]: run["deviation"] for run in runs} for runs in curves]
    return [at[0.0] < at[1.0] for at in found]


CLAIMS = {
    "λ = 1 clips more samples than bicubic, at every number of steps": _above_bicubic(
        "clipped_share"
    ),
    "and most at one step": _first_highest,
    "and has more high frequencies": _above_bicubic("deviation"),
    "λ of 0.7 to 0.9 avoids oversaturation: fewer clipped samples than λ = 1": _moderate(
        "clipped_share"
    ),
    "and chroma noise: less detail of colour than λ = 1": _moderate("chroma_ratio"),
    "λ = 0 is the smooth picture: fewer high frequencies than λ = 1": _smooth,
    "λ > 1 is noisy: more high frequencies than λ = 1": _beyond("deviation"),
    "and oversaturated: more clipped samples": _beyond("clipped_share"),
}


def _verdict(holds: int, cases: int) -> str:
    word = "agrees" if holds == cases else "does not" if holds == 0 else "in part"
    return f"{word}, {holds} of {cases}"


def _cells(run: Run) -> list[str]:
    clipped = fixed(100 * run["clipped_share"], 2)
    return [clipped, fixed(run["deviation"], 3), fixed(run["chroma_ratio"], 2)]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
