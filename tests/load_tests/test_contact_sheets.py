"""Sheets show the pictures they are given, and the place that an input misses most of."""

from pathlib import Path

import contact_sheets
import numpy as np
from contact_sheets import labelled_row, most_detail, sheet, write_sheets
from fakes import FakeModel
from PIL import Image
from quality_pictures import Truth
from quality_runs import Bench, Weights

from sr_engine.engine import SREngine


def textured(top: int, left: int) -> np.ndarray:
    """A flat picture, with noise in one square of 24 px."""
    picture = np.full((96, 128, 3), 120, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    picture[top : top + 24, left : left + 24] = noise
    return picture


def test_the_place_of_most_detail() -> None:
    for place in ((0, 0), (40, 60), (72, 104)):
        top, left = most_detail(textured(*place), 4, 24)
        assert abs(top - place[0]) <= 4
        assert abs(left - place[1]) <= 4


def test_a_sheet_has_every_picture_and_its_crop() -> None:
    truth = textured(40, 60)
    black = np.zeros_like(truth)
    page = np.asarray(sheet({"black": black, "truth": truth}, 4))
    above = contact_sheets.LABEL_PX
    np.testing.assert_array_equal(page[above : above + 96, :128], black)
    np.testing.assert_array_equal(page[above : above + 96, -128:], truth)
    # The crop is of the noise, four times as large.
    crop = page[-128:, -128:]
    assert crop.std() > 50
    np.testing.assert_array_equal(crop[::4, ::4], crop[3::4, 3::4])
    assert page[:above].std() > 10


def test_wide_pictures_are_made_to_fit() -> None:
    wide = np.repeat(textured(40, 60), 5, axis=1)
    page = sheet({"one": wide, "truth": wide}, 4)
    assert page.width == 2 * contact_sheets.COLUMN_PX + contact_sheets.GAP_PX


def test_a_row_without_labels_is_as_high_as_its_pictures() -> None:
    picture = Image.new("RGB", (10, 8))
    assert labelled_row({"a": picture, "b": picture}, labels=False).height == 8


def test_pictures_that_are_kept_are_not_made_again(tmp_path: Path) -> None:
    model = FakeModel()
    bench = Bench(SREngine(model), Weights("w", "d"))
    truth = Truth("set", "noise", textured(40, 60))
    for method in contact_sheets.SHOWN:
        path = bench.picture_path(method, truth, 4, tmp_path)
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (128, 96), "red").save(path)
    write_sheets(bench, [truth], 4, tmp_path, kept=tmp_path)
    assert not model.calls
    with Image.open(tmp_path / "quality-noise.jpg") as page:
        column = 128 + contact_sheets.GAP_PX
        red, green, _ = page.getpixel((4 * column + 64, contact_sheets.LABEL_PX + 48))
        assert red > 240
        assert green < 20


def test_every_picture_gets_a_sheet(tmp_path: Path) -> None:
    bench = Bench(SREngine(FakeModel()), Weights("w", "d"))
    truth = Truth("set", "noise", textured(40, 60))
    write_sheets(bench, [truth], 4, tmp_path / "new")
    with Image.open(tmp_path / "new" / "quality-noise.jpg") as page:
        assert page.format == "JPEG"
        columns = len(contact_sheets.SHOWN) + 2
        assert page.width == columns * (128 + contact_sheets.GAP_PX) - contact_sheets.GAP_PX
