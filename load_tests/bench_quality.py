"""Picture quality of a model over a folder of ground-truth images: makes `docs/quality.md`.

    python load_tests/bench_quality.py SET5 SET14 --dtype float32 --save

The protocol of the super-resolution literature: the truth is cropped to a multiple of the scale,
made small by Pillow's bicubic filter, upscaled, and compared on Y with a border shaved. Each
picture's measures are added to the results file as a JSON line; what is in it is not measured
again, so that a run that was cut off goes on where it was. With ``--save`` tables that are measured
take the place of what was kept of them. The last line printed is a JSON object.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import measurements
import quality_page
import torch
from contact_sheets import write_sheets
from PIL import Image
from quality_figures import of_all
from quality_methods import BALANCED, BICUBIC, TABLES
from quality_pictures import Truth, find_images, load_truths
from quality_plans import LONG_TABLE_PX, SCALE, SCALES, Plan, figures, merged, plans
from quality_records import Records
from quality_runs import Bench, Weights

from nullscale.networks.loading import load_model
from sr_engine.engine import SREngine


def part_of(text: str) -> slice:
    """Read a part such as 1/2: every second picture from the first on."""
    number, parts = map(int, text.split("/"))
    if not 1 <= number <= parts:
        raise ValueError(text)
    return slice(number - 1, None, parts)


def largest_first(truths: Sequence[Truth]) -> list[Truth]:
    """Return the pictures in an order whose parts are about as much work as each other."""
    return sorted(truths, key=lambda truth: truth.pixels.size, reverse=True)


def measure(
    plan: Plan, truths: Sequence[Truth], bench: Bench, records: Records, pictures: Path | None
) -> int:
    """Measure what is not known yet; return how many pictures that were."""
    new = 0
    for method in plan.methods():
        started, before = time.perf_counter(), new
        for truth in truths:
            key = bench.key(method, truth, plan.scale)
            if records.get(key) is not None:
                continue
            found, image = bench.measure(method, truth, plan.scale)
            records.add(key, found)
            new += 1
            if pictures is not None:
                path = bench.picture_path(method, truth, plan.scale, pictures)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
        if new > before:
            means = of_all(method, truths, plan.scale, bench, records) or {}
            psnr_y = sum(one["psnr_y"] for one in means.values()) / len(means)
            seconds = time.perf_counter() - started
            print(f"{plan.table} ×{plan.scale} {method.label}: {psnr_y:.2f} dB, {seconds:.0f} s")
            sys.stdout.flush()
    return new


def summary(found: Mapping[str, Any], new: int, known: int) -> dict[str, Any]:
    """Return the last line's object."""
    gained, tables = {}, found["tables"]["methods"]
    for table in tables:
        means = {row["label"]: row["means"] for row in table["rows"]}
        if BALANCED.label in means:
            plain, ours = means[BICUBIC.label], means[BALANCED.label]
            gained[f"×{table['scale']}"] = {
                key: [round(plain[key], 3), round(ours[key], 3)]
                for key in ("psnr_y", "ssimulacra2")
            }
    return {
        "pictures": sum(tables[0]["groups"].values()) if tables else 0,
        "measured": new,
        "known": known,
        "self_check": found.get("self_check", {}),
        "bicubic_and_balanced": gained,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path, help="folders of ground truths, or files")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", help="bfloat16 is within 0.1 dB of float32")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--scales", type=int, nargs="+", default=SCALES, metavar="N")
    parser.add_argument(
        "--only", nargs="+", choices=TABLES, default=list(TABLES), help="measure these tables only"
    )
    parser.add_argument(
        "--crop-px",
        type=int,
        help="centred squares of this side in every table, 0 for whole pictures; by default whole "
        f"ones for the cross and the methods at ×{SCALE}, {LONG_TABLE_PX} px for nearly all else",
    )
    parser.add_argument(
        "--results",
        type=Path,
        nargs="+",
        default=[Path("quality.jsonl")],
        help="work files: all are read, the first is written",
    )
    parser.add_argument(
        "--part",
        type=part_of,
        default=slice(None),
        metavar="N/PARTS",
        help="measure these pictures only: of several processes with a thread each, each another "
        "part into its own results, which a last one reads",
    )
    parser.add_argument("--pictures", type=Path, help="folder to keep every new picture in")
    parser.add_argument(
        "--sheets",
        type=Path,
        help="folder for contact sheets of the images, ×4; made of --pictures where they are there",
    )
    parser.add_argument("--note", default="", help="a sentence on how this was measured")
    measurements.add_option(parser)
    args = parser.parse_args()
    if not find_images(args.images):
        parser.error(f"there are no pictures in {', '.join(map(str, args.images))}")
    if args.threads:
        torch.set_num_threads(args.threads)

    engine = SREngine(load_model(args.model, device=args.device, dtype=args.dtype))
    bench = Bench(engine, Weights.of(args.model))
    bench.warm_up()
    records = Records(args.results)
    known, new, wanted = len(records), 0, plans(args.scales, args.crop_px)
    for plan in wanted:
        if plan.table in args.only:
            truths = load_truths(args.images, plan.scale, plan.crop_px)
            truths = largest_first(truths)[args.part]
            new += measure(plan, truths, bench, records, args.pictures)
    scales = sorted({*SCALES, *args.scales})
    found = figures(args.images, plans(scales, args.crop_px), bench, records)
    found["note"] = args.note
    if args.sheets:
        truths = load_truths(args.images, SCALE)
        write_sheets(bench, truths, SCALE, args.sheets, kept=args.pictures)
    if args.save:
        kept = measurements.load().get(quality_page.NAME)
        measurements.save(quality_page.NAME, merged(kept["figures"], found) if kept else found)
        quality_page.write()
    print(json.dumps(summary(found, new, known), ensure_ascii=False))


if __name__ == "__main__":
    main()
