"""Contact sheets: what each method makes of a picture, side by side, and below it a zoomed crop.

python load_tests/contact_sheets.py                    # docs/images/quality-*.jpg, free photos
python load_tests/contact_sheets.py IMAGES --out FOLDER
"""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

import metrics
import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from quality_methods import methods
from quality_pictures import Truth, crop, enlarge, load_truths, shrink
from quality_runs import Bench, Weights
from scipy.ndimage import uniform_filter
from skimage import data

from nullscale.networks.loading import load_model
from sr_engine.engine import SREngine

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
EXAMPLE = IMAGES.parents[1] / "examples" / "coffee.png"
WANTED = ("bicubic", "Lanczos", "faithful, 8 steps", "balanced", "sharp")
SHOWN = [method for method in methods() if method.label in WANTED]
COLUMN_PX = 256
ZOOM = 4
LABEL_PX = 22
GAP_PX = 4
JPEG_QUALITY = 88


def write_sheets(
    bench: Bench, truths: Iterable[Truth], scale: int, folder: Path, kept: Path | None = None
) -> None:
    """Upscale every picture by every method shown, and write one JPEG each.

    Args:
        kept: the benchmark's pictures, which need not be made again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for truth in truths:
        small = shrink(truth.pixels, scale)
        shown = {"input": enlarge(small, scale, Image.Resampling.NEAREST)}
        for method in SHOWN:
            path = bench.picture_path(method, truth, scale, kept) if kept else None
            if path is not None and path.exists():
                shown[method.label] = np.asarray(Image.open(path))
            else:
                shown[method.label] = bench.make(method, small, scale)[0]
        picture = sheet({**shown, "truth": truth.pixels}, scale)
        picture.save(folder / f"quality-{truth.name}.jpg", quality=JPEG_QUALITY)


def sheet(shown: Mapping[str, np.ndarray], scale: int) -> Image.Image:
    """Return pictures of one size side by side, and below each the place of most detail.

    Args:
        shown: [H, W, 3] by their labels, the truth last. Wider ones than a column are made smaller.
    """
    truth = list(shown.values())[-1]
    height, width = truth.shape[:2]
    shrunk = min(1.0, COLUMN_PX / width)
    column_px, above_px = round(width * shrunk), round(height * shrunk)
    side = min(column_px // ZOOM, height, width)
    top, left = most_detail(truth, scale, side)
    whole, crops = {}, {}
    for label, pixels in shown.items():
        picture = Image.fromarray(pixels)
        whole[label] = picture.resize((column_px, above_px), Image.Resampling.LANCZOS)
        cut = picture.crop((left, top, left + side, top + side))
        crops[label] = cut.resize((column_px, column_px), Image.Resampling.NEAREST)
    return stacked([labelled_row(whole), labelled_row(crops, labels=False)])


def labelled_row(shown: Mapping[str, Image.Image], *, labels: bool = True) -> Image.Image:
    """Return pictures of one size beside each other, each under its label."""
    width, height = next(iter(shown.values())).size
    above = LABEL_PX if labels else 0
    row = Image.new("RGB", (len(shown) * (width + GAP_PX) - GAP_PX, height + above), "white")
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 14)
    for number, (label, picture) in enumerate(shown.items()):
        left = number * (width + GAP_PX)
        row.paste(picture, (left, above))
        if labels:
            # A strip of its own, so that a long label ends where the column does.
            strip = Image.new("RGB", (width, above), "white")
            middle = (2, above // 2)
            ImageDraw.Draw(strip).text(middle, label, "black", font=font, anchor="lm")
            row.paste(strip, (left, 0))
    return row


def stacked(rows: list[Image.Image]) -> Image.Image:
    """Return pictures below each other."""
    height = sum(row.height + GAP_PX for row in rows) - GAP_PX
    page = Image.new("RGB", (max(row.width for row in rows), height), "white")
    top = 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height + GAP_PX
    return page


def most_detail(truth: np.ndarray, scale: int, side: int) -> tuple[int, int]:
    """Return the upper left corner of the square where there is most to be found.

    That is what twice the input's resolution holds and the input does not: edges rather than the
    finest texture, of which an input holds no trace.
    """
    finer = scale // 2 if scale % 2 == 0 else 1
    coarse, fine = (metrics.luma(enlarge(shrink(truth, by), by)) for by in (scale, finer))
    missing = (fine - coarse) ** 2
    height, width = truth.shape[:2]
    # At [i, j] the mean over the square that begins `side // 2` before.
    means = uniform_filter(missing, side)
    inside = means[side // 2 :, side // 2 :][: height - side + 1, : width - side + 1]
    top, left = np.unravel_index(np.argmax(inside), inside.shape)
    return int(top), int(left)


def free_photos(scale: int, side: int | None = None) -> list[Truth]:
    """Return the two photos, both CC0, that pages may show."""
    (coffee,) = load_truths([EXAMPLE], scale, side)
    return [coffee, Truth("scikit-image", "chelsea", crop(data.chelsea(), scale, side))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", type=Path, help="folders or files; else free photos")
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--scale", type=int, default=4)
    args = parser.parse_args()
    bench = Bench(SREngine(load_model(args.model, dtype=args.dtype)), Weights.of(args.model))
    truths = load_truths(args.images, args.scale) if args.images else free_photos(args.scale)
    write_sheets(bench, truths, args.scale, args.out)


if __name__ == "__main__":
    main()
