"""Which tables are measured on which pictures, and what is kept of them for the page."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quality_figures import of_all, rows, self_check
from quality_methods import BALANCED, BICUBIC, TABLES, Method
from quality_pictures import load_truths
from quality_records import Records
from quality_runs import Bench

SCALE = 4
SCALES = [2, 3, 4, 8]
LONG_TABLE_PX = 128
NOISY_PX = 256
"""JPEG's blocks, and noise to be estimated from, need more of a picture."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One table at one scale, over whole pictures or centred squares."""

    table: str
    scale: int
    crop_px: int | None

    def methods(self) -> Iterator[Method]:
        return TABLES[self.table]()


def plans(scales: Sequence[int], crop_px: int | None) -> list[Plan]:
    """Return every table: the methods' at all scales, the others at ×4.

    A side of 0 is the whole picture. None leaves it to the table: the methods at ×4 and the cross
    on whole pictures, all else on small squares.
    """
    whole = crop_px or None
    small = LONG_TABLE_PX if crop_px is None else whole
    found = [Plan("methods", scale, whole if scale == SCALE else small) for scale in scales]
    sides = {"noisy": NOISY_PX if crop_px is None else whole, "cross": whole}
    others = [table for table in TABLES if table != "methods"]
    return found + [Plan(table, SCALE, sides.get(table, small)) for table in others]


def figures(
    images: Sequence[Path], wanted: Sequence[Plan], bench: Bench, records: Records
) -> dict[str, Any]:
    """Return what the page needs of all that these plans cover and that was measured.

    Long tables are there for whole pictures too, where more than half of them was measured so.
    """
    info = bench.engine.model.info
    found: dict[str, Any] = {
        "model": info.name,
        "weights": bench.weights.main,
        "defaults": asdict(bench.params(BALANCED, SCALE)),
        "tables": {name: [] for name in TABLES},
    }
    whole = [Plan(table, SCALE, None) for table in TABLES if table != "methods"]
    seen = set()
    for plan in [*wanted, *whole]:
        truths = load_truths(images, plan.scale, plan.crop_px)
        # Small pictures are their own squares.
        what = (plan.table, plan.scale, *(truth.digest for truth in truths))
        if what in seen:
            continue
        seen.add(what)
        table = rows(plan.methods(), truths, plan.scale, bench, records)
        if 2 * len(table) < len(list(plan.methods())):
            continue
        groups = Counter(truth.group for truth in truths)
        what_of = {"scale": plan.scale, "crop_px": plan.crop_px, "dtype": info.dtype}
        found["tables"][plan.table].append({**what_of, "groups": groups, "rows": table})
        if plan.table == "methods" and plan.scale == SCALE and plan.crop_px is None:
            plain = of_all(BICUBIC, truths, plan.scale, bench, records)
            found["self_check"] = self_check(truths, plain)
    # A square that every autoencoder takes, whatever its multiple.
    squares = load_truths(images, 32, LONG_TABLE_PX)
    found["round_trip"] = bench.round_trip(squares)
    return found


def merged(kept: Mapping[str, Any], found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the figures that were found, and of those kept before the tables that were not.

    A table of the same pictures with fewer rows takes no other's place. Of other weights or
    defaults nothing is kept.
    """
    if any(kept[name] != found[name] for name in ("weights", "defaults")):
        return found
    tables = {}
    for name, new in found["tables"].items():
        places = {(old["scale"], old["crop_px"]): old for old in kept["tables"].get(name, [])}
        for table in new:
            old = places.get((table["scale"], table["crop_px"]), table)
            if old["groups"] != table["groups"] or len(old["rows"]) <= len(table["rows"]):
                places[table["scale"], table["crop_px"]] = table
        tables[name] = list(places.values())
    return {**kept, **found, "tables": tables}
