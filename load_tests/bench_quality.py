"""Picture quality of the projections, steps, η and λ over a folder of ground-truth images.

    python load_tests/bench_quality.py IMAGES... --results quality.jsonl --table table.md

The protocol of the super-resolution literature: the truth is cropped to a multiple of the scale,
made small by Pillow's bicubic filter, upscaled, and compared on Y with a border shaved. Each
variant's mean is added to the results file as a JSON line; variants already in it are not run
again. The last line printed is a JSON object.
"""

import argparse
import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import metrics
import numpy as np
import torch
from PIL import Image
from tables import markdown

from sr_engine.engine import SREngine
from sr_engine.loading import load_model

Variant = Mapping[str, str | int | float]
COLUMNS = {
    "psnr_y": "PSNR-Y",
    "ssim_y": "SSIM",
    "ssimulacra2": "SSIMULACRA2",
    "high_frequency": "HF",
    "exact_share": "exact",
}


def load_truths(folders: list[Path], scale: int, crop_px: int | None) -> dict[str, np.ndarray]:
    """Read every PNG; crop to a multiple of the scale, or to a centred square of ``crop_px``."""
    truths = {}
    for path in sorted(itertools.chain.from_iterable(f.glob("*.png") for f in folders)):
        with Image.open(path) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        height, width = (crop_px or n - n % scale for n in pixels.shape[:2])
        top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
        if crop_px is None:
            top = left = 0
        truths[path.stem] = pixels[top : top + height, left : left + width]
    return truths


def shrink(truth: np.ndarray, scale: int) -> np.ndarray:
    """Return the input that the upscaler gets."""
    height, width = (n // scale for n in truth.shape[:2])
    small = Image.fromarray(truth).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(small)


def compare(image: np.ndarray, truth: np.ndarray, scale: int) -> dict[str, float]:
    """Return every measure of one picture."""
    given_back = shrink(image, scale) == shrink(truth, scale)
    return {
        "psnr_y": metrics.psnr_y(image, truth, scale),
        "ssim_y": metrics.ssim_y(image, truth, scale),
        "ssimulacra2": metrics.ssimulacra2(image, truth),
        "high_frequency": metrics.high_frequency_ratio(image, truth, scale),
        "exact_share": float(given_back.mean()),
    }


def bicubic(small: np.ndarray, scale: int) -> np.ndarray:
    height, width = (n * scale for n in small.shape[:2])
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def measure(
    variant: Variant,
    truths: dict[str, np.ndarray],
    scale: int,
    engine: SREngine,
    pictures: Path | None,
) -> dict[str, float]:
    """Return the means of one variant over all pictures; keep the pictures where asked to."""
    found = []
    for name, truth in truths.items():
        small = shrink(truth, scale)
        started = time.perf_counter()
        if variant["method"] == "bicubic":
            image = bicubic(small, scale)
        else:
            given = {k: v for k, v in variant.items() if k != "method"}
            params = engine.model.defaults.override({"seed": 1, "scale": scale, **given})
            image = engine.upscale(small, params).image
        seconds = time.perf_counter() - started
        found.append({**compare(image, truth, scale), "seconds": seconds})
        if pictures is not None:
            folder = pictures / "_".join(str(v) for v in variant.values())
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{name}.png")
    return {key: float(np.mean([f[key] for f in found])) for key in found[0]}


def variants(args: argparse.Namespace) -> Iterator[Variant]:
    """Yield bicubic, the model's default, then the grid; a single step knows no projection or η."""
    yield {"method": "bicubic"}
    yield {"method": "default"}
    for words in args.variant:
        given = dict(pair.split("=") for pair in words.split(","))
        yield {"method": f"default, {words}"} | {k: json.loads(v) for k, v in given.items()}
    seen = set()
    for steps, projection, eta, strength, start in itertools.product(
        args.steps, args.projection, args.eta, args.guidance_strength, args.strength
    ):
        if steps == 1:
            projection, eta = "pixel", 0.0
        variant = {
            "method": "ddnm",
            "projection": projection,
            "num_inference_steps": steps,
            "eta": eta,
            "guidance_strength": strength,
            "strength": start,
            "draft": False,
        }
        if tuple(variant.values()) not in seen:
            seen.add(tuple(variant.values()))
            yield variant


def fingerprint(engine: SREngine) -> str:
    """Return what changes when the model is trained anew."""
    digest = hashlib.sha256()
    for network in (engine.model.transformer, engine.model.autoencoder.network):
        for weights in network.state_dict().values():
            digest.update(weights.float().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def table(records: list[dict[str, object]]) -> str:
    """Return the records as a Markdown table."""
    keys = ["projection", "num_inference_steps", "eta", "guidance_strength", "strength"]
    names = ["projection", "steps", "η", "λ", "start σ", *COLUMNS.values()]
    rows = []
    for record in records:
        names_it = "ddnm" not in str(record["method"])
        cells = [str(record["method"] if names_it else record["projection"])]
        cells += [str(record.get(k, "")) for k in keys[1:]]
        for key in COLUMNS:
            digits = {"ssim_y": 4, "exact_share": 4}.get(key, 2)
            cells.append(f"{record[key]:.{digits}f}")
        rows.append(cells)
    return markdown(names, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path, help="folders of ground-truth PNG files")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--crop-px", type=int, help="use centred squares of this side only")
    parser.add_argument("--steps", type=int, nargs="*", default=[1, 4, 8, 16])
    parser.add_argument(
        "--projection", nargs="*", default=["latent", "pixel", "residual"], metavar="NAME"
    )
    parser.add_argument("--eta", type=float, nargs="*", default=[0.0, 0.85])
    parser.add_argument("--guidance-strength", type=float, nargs="*", default=[0.5, 0.8, 1.0])
    parser.add_argument("--strength", type=float, nargs="*", default=[1.0])
    parser.add_argument(
        "--variant",
        nargs="*",
        default=[],
        metavar="NAME=VALUE,…",
        help="the default with these parameters",
    )
    parser.add_argument("--results", type=Path, default=Path("quality.jsonl"))
    parser.add_argument("--table", type=Path, help="Markdown file to write the table to")
    parser.add_argument("--pictures", type=Path, help="folder to keep every picture in")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    truths = load_truths(args.images, args.scale, args.crop_px)
    engine = SREngine(load_model(args.model, dtype=args.dtype))
    weights = fingerprint(engine)
    lines = args.results.read_text().splitlines() if args.results.exists() else []
    records = [json.loads(line) for line in lines]
    done = {json.dumps(r["key"], sort_keys=True) for r in records}
    for variant in variants(args):
        key = {
            **variant,
            "model": args.model,
            "scale": args.scale,
            "crop_px": args.crop_px,
            "pictures": sorted(truths),
            "dtype": engine.model.info.dtype,
            "weights": weights,
        }
        if str(variant["method"]).startswith("default"):
            key["defaults"] = str(engine.model.defaults)
        if json.dumps(key, sort_keys=True) in done:
            continue
        means = measure(variant, truths, args.scale, engine, args.pictures)
        record = {**variant, **means, "key": key}
        records.append(record)
        with args.results.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)
    if args.table:
        args.table.write_text(table(records) + "\n")
    best = max(records, key=lambda r: r["psnr_y"])
    print(json.dumps({"pictures": len(truths), "scale": args.scale, "best_psnr_y": best}))


if __name__ == "__main__":
    main()
