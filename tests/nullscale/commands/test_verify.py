"""`nullscale verify`: what it says of pairs of files, and its exit codes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import photo
from PIL import Image
from typer.testing import CliRunner

from nullscale.commands.main import app
from nullscale.commands.verify import describe
from nullscale.maths.consistency import Consistency
from nullscale.maths.operators import BicubicDownscale
from nullscale.maths.rounding import round_consistently


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["verify", *(str(word) for word in words)])
    return result.exit_code, result.output


def saved(path: Path, samples: np.ndarray) -> Path:
    Image.fromarray(samples).save(path)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.png"
    path.write_bytes(photo(12, 17))
    return path


@pytest.fixture
def samples(small: Path) -> np.ndarray:
    """A picture that gives the small one back."""
    with Image.open(small) as opened:
        y = torch.from_numpy(np.array(opened)).permute(2, 0, 1)
    operator = BicubicDownscale((12, 17), 2)
    rounded = round_consistently(operator.pinv(y.float() / 255), y, operator)
    return rounded.image.permute(1, 2, 0).numpy()


def test_what_gives_its_input_back_passes(small: Path, samples: np.ndarray) -> None:
    large = saved(small.with_name("large.png"), samples)
    assert call(small, large) == (0, f"{large} gives its input back exactly\n")


def test_one_changed_pixel_is_found(small: Path, samples: np.ndarray) -> None:
    samples[7, 9] = 255 - samples[7, 9]
    code, output = call(small, saved(small.with_name("large.png"), samples))
    assert code == 1
    assert "of its input back (" in output and "100.00%" not in output


def test_one_wrong_sample_of_many_is_not_all() -> None:
    lost = Consistency(exact=False, exact_share=1 - 1e-6, reachable=True, psnr_db=109.0)
    assert describe(lost) == "gives 99.99% of its input back (109.0 dB)"


def test_results_are_taken_as_large_as_they_are_made(small: Path) -> None:
    """An input of 1.1 megapixels, ×4."""
    large = small.with_name("large.png")
    Image.new("RGB", (4800, 3700)).save(large)
    code, output = call(small, large)
    assert code == 1 and "of its input back" in output


@pytest.mark.parametrize("size", [(11, 40), (40, 16)])
def test_a_smaller_picture_is_no_enlargement(small: Path, size: tuple[int, int]) -> None:
    code, output = call(small, saved(small.with_name("large.png"), np.zeros((*size, 3), np.uint8)))
    assert code == 2 and "is smaller than" in output


def test_transparency_from_nowhere_is_told(small: Path) -> None:
    large = saved(small.with_name("large.png"), np.full((24, 34, 4), 100, np.uint8))
    code, output = call(small, large)
    assert code == 2 and "is transparent" in output


def test_files_that_are_no_pictures_are_told(small: Path) -> None:
    broken = small.with_name("broken.png")
    broken.write_bytes(b"no picture")
    for files in ((small, broken), (broken, small), (small, small.with_name("absent.png"))):
        code, output = call(*files)
        assert code == 2 and output.count("\n") == 1, output


def test_the_round_trip_in_words() -> None:
    lost = Consistency(exact=False, exact_share=0.5, reachable=False, psnr_db=20.04)
    assert describe(lost) == (
        "gives 50.00% of its input back (20.0 dB): no picture in range does it exactly"
    )
