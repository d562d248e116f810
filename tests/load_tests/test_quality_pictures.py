"""Truths are cropped to what the scale divides, and told apart."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from quality_pictures import Truth, crop, enlarge, find_images, load_truths, shrink

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)


def test_a_whole_picture_loses_what_the_scale_does_not_divide() -> None:
    np.testing.assert_array_equal(crop(PIXELS, 4, None), PIXELS[:36, :48])


@pytest.mark.parametrize(("scale", "side", "shape"), [(4, 16, (16, 16)), (3, 16, (15, 15))])
def test_a_square_is_from_the_centre(scale: int, side: int, shape: tuple[int, int]) -> None:
    cut = crop(PIXELS, scale, side)
    assert cut.shape[:2] == shape
    top, left = (37 - shape[0]) // 2, (50 - shape[1]) // 2
    np.testing.assert_array_equal(cut, PIXELS[top : top + shape[0], left : left + shape[1]])


def test_a_square_is_no_larger_than_the_picture() -> None:
    assert crop(PIXELS, 8, 40).shape == (32, 40, 3)


def test_folders_and_files_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("txt"):
            (tmp_path / name).write_text("no picture")
        else:
            Image.fromarray(PIXELS).convert("L").save(tmp_path / name)
    found = find_images([tmp_path, tmp_path / "b.png"])
    assert [path.name for path in found] == ["a.jpg", "b.png", "b.png"]
    truths = load_truths([tmp_path], 2)
    assert [(truth.group, truth.name) for truth in truths] == [
        (tmp_path.name, "a"),
        (tmp_path.name, "b"),
    ]
    assert truths[1].pixels.shape == (36, 50, 3)


def test_other_crops_are_other_pictures() -> None:
    flat = np.zeros((8, 16, 3), np.uint8)
    digests = {Truth("", "", x).digest for x in (PIXELS, PIXELS[1:], flat, flat.reshape(16, 8, 3))}
    assert len(digests) == 4
    assert Truth("", "", PIXELS).digest == Truth("a", "b", PIXELS.copy()).digest


def test_input_and_interpolation_have_the_sides_of_the_scale() -> None:
    small = shrink(PIXELS[:36, :48], 4)
    assert small.shape == (9, 12, 3)
    assert enlarge(small, 4).shape == (36, 48, 3)
    expected = Image.fromarray(PIXELS[:36, :48]).resize((12, 9), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(small, np.asarray(expected))
