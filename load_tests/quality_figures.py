"""What the page on quality needs of all that was measured."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from quality_measures import Measures, mean, present
from quality_methods import BALANCED, BICUBIC, Method
from quality_pictures import Truth
from quality_records import Records
from quality_runs import Bench

PUBLISHED_DB = {"set5": 28.42, "set14": 26.1}
"""Mean PSNR-Y of MATLAB's bicubic ×4, as papers have it."""
KEPT_OF_GROUPS = ("psnr_y", "ssim_y", "ssimulacra2")

Found = Mapping[str, Measures]


def rows(
    methods: Iterable[Method],
    truths: Sequence[Truth],
    scale: int,
    bench: Bench,
    records: Records,
) -> list[dict[str, Any]]:
    """Return a table's rows, those of which every picture was measured."""
    plain = of_all(BICUBIC, truths, scale, bench, records)
    found = []
    for method in methods:
        measured = of_all(method, truths, scale, bench, records)
        if measured is None or plain is None:
            continue
        found.append(
            {
                "label": method.label,
                "params": dict(method.params),
                "is_default": method.label != BALANCED.label
                and bench.key(method, truths[0], scale) == bench.key(BALANCED, truths[0], scale),
                **row(measured, plain),
            }
        )
    return found


def of_all(
    method: Method, truths: Sequence[Truth], scale: int, bench: Bench, records: Records
) -> Found | None:
    """Return what was measured, by ``group/name``; None where a picture is missing."""
    found = {}
    for truth in truths:
        measures = records.get(bench.key(method, truth, scale))
        if measures is None:
            return None
        found[f"{truth.group}/{truth.name}"] = measures
    return found


def row(measured: Found, plain: Found) -> dict[str, Any]:
    """Return the means of one method, and the pictures at its ends."""
    groups: dict[str, list[Measures]] = {}
    for name, measures in measured.items():
        groups.setdefault(name.rpartition("/")[0], []).append(measures)
    gains = {
        key: {name: one[key] - plain[name][key] for name, one in measured.items()}
        for key in ("psnr_y", "ssimulacra2")
    }
    figures: dict[str, Any] = {
        "means": _short(mean(list(measured.values()))),
        "groups": {
            group: _short({k: v for k, v in mean(found).items() if k in KEPT_OF_GROUPS})
            for group, found in groups.items()
        },
        "least_gain": {key: _least(values) for key, values in gains.items()},
        "inexact": sum(one["exact_share"] != 1 for one in measured.values()),
        # In percentage points, the sign kept: above 0 is more than the truth has.
        "clipped_off_pp": _most({n: m["clipped_off"] for n, m in measured.items()}),
        "saturation_off_pp": _most({n: m["saturation_off"] for n, m in measured.items()}),
        "saturation_of_grey": max(
            present(one["saturation_of_grey"] for one in measured.values()), default=None
        ),
    }
    if all("best_single_psnr_y" in one for one in measured.values()):
        over = {n: one["psnr_y"] - one["best_single_psnr_y"] for n, one in measured.items()}
        figures["over_best_single_db"] = _least(over)
    return figures


def self_check(truths: Iterable[Truth], plain: Found) -> dict[str, dict[str, float]]:
    """Return bicubic's mean PSNR-Y at ×4 beside the published one, of the sets that have one."""
    found: dict[str, list[float]] = {}
    for truth in truths:
        if truth.group.lower() in PUBLISHED_DB:
            value = plain[f"{truth.group}/{truth.name}"]["psnr_y"]
            found.setdefault(truth.group.lower(), []).append(value)
    return {
        group: {"measured_db": round(sum(v) / len(v), 3), "published_db": PUBLISHED_DB[group]}
        for group, v in found.items()
    }


def _least(values: Mapping[str, float]) -> list[Any]:
    name = min(values, key=lambda n: values[n])
    return [round(values[name], 4), name]


def _most(shares: Mapping[str, float | None]) -> list[Any] | None:
    there = {name: 100 * share for name, share in shares.items() if share is not None}
    if not there:
        return None
    name = max(there, key=lambda n: abs(there[n]))
    return [round(there[name], 4), name]


def _short(means: Mapping[str, float | None]) -> dict[str, float | None]:
    short = {key: None if value is None else round(value, 5) for key, value in means.items()}
    if short.get("exact_share") == 1 > means["exact_share"]:
        # 1 is for all of it.
        short["exact_share"] = 1 - 1e-5
    return short
