"""Figures of load tests, kept in `docs/measurements/`; `report.py` makes `docs/load.md` of them."""

import argparse
import json
from pathlib import Path
from typing import Any

import psutil

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "measurements"
WORDS = {1: "one core", 2: "two cores", 4: "four cores", 8: "eight cores"}


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--save`` to a command."""
    parser.add_argument(
        "--save", action="store_true", help="keep the figures for the page (docs/measurements/)"
    )


def machine() -> str:
    """Say what these figures are of."""
    cores = psutil.cpu_count() or 0
    return f"{WORDS.get(cores, f'{cores} cores')}, CPU"


def save(name: str, figures: Any, folder: Path = FOLDER) -> None:
    """Keep what a command has measured on this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine(), "figures": figures}, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n")


def load(folder: Path = FOLDER) -> dict[str, Any]:
    """Return all that has been kept, by the commands' names."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
