"""`nullscale restore`: what it writes, and the calls it refuses."""

from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_checkpoint
from pictures import photo
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from nullscale.commands.main import app

HEIGHT, WIDTH = 20, 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("model")))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    path.write_bytes(photo(HEIGHT, WIDTH))
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """A hole in the middle."""
    lost = np.zeros((HEIGHT, WIDTH), np.uint8)
    lost[6:12, 8:15] = 255
    path = tmp_path / "mask.png"
    Image.fromarray(lost).save(path)
    return path


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["restore", *(str(word) for word in words)])
    return result.exit_code, result.output


def samples(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(np.float64)


def test_known_pixels_stay_and_lost_ones_are_made(source: Path, mask: Path, model: str) -> None:
    output = source.with_name("out.png")
    code, said = call(source, "-o", output, "--mask", mask, "--seed", 1, "--model", model)
    assert code == 0, said
    assert "100.00% of what is known" in said
    lost = samples(mask) > 0
    np.testing.assert_array_equal(samples(output)[~lost], samples(source)[~lost])
    assert samples(output)[lost].std() > 0


def test_colours_have_the_greys_that_were_there(source: Path, model: str) -> None:
    output = source.with_name("out.png")
    code, said = call(source, "-o", output, "--colourise", "--seed", 1, "--model", model)
    assert code == 0, said
    difference = samples(output).mean(-1) - samples(source).mean(-1)
    assert np.abs(difference).mean() < 0.6, said


def test_what_is_sharpened_blurs_back(source: Path, model: str) -> None:
    output = source.with_name("out.png")
    blurred = ndimage.gaussian_filter(samples(source), (1, 1, 0), mode="reflect")
    Image.fromarray(blurred.round().astype(np.uint8)).save(source)
    code, said = call(source, "-o", output, "--blur", 1.0, "--seed", 1, "--model", model)
    assert code == 0, said
    again = ndimage.gaussian_filter(samples(output), (1, 1, 0), mode="reflect")
    # What is nearly lost is taken for lost, and made up by the model.
    assert np.abs(again - blurred).mean() < 2
    assert np.abs(samples(output) - samples(source)).mean() > 2


def test_an_old_photo_is_coloured_mended_and_enlarged(source: Path, mask: Path, model: str) -> None:
    output = source.with_name("out.webp")
    code, said = call(
        source, "-o", output, "--colourise", "--mask", mask, "--scale", 2, "--model", model
    )
    assert code == 0, said
    assert samples(output).shape == (2 * HEIGHT, 2 * WIDTH, 3)


def test_means_of_squares_come_back(source: Path, model: str) -> None:
    output = source.with_name("out.png")
    code, said = call(
        source, "-o", output, "--downscale", "average", "--scale", 2, "--seed", 1, "--model", model
    )
    assert code == 0, said
    squares = samples(output).reshape(HEIGHT, 2, WIDTH, 2, 3).mean((1, 3))
    assert np.abs(squares - samples(source)).max() <= 0.5


def test_noise_need_not_come_back(source: Path, model: str) -> None:
    output = source.with_name("out.png")
    noise = np.random.default_rng(0).normal(scale=20, size=(HEIGHT, WIDTH, 3))
    noisy = (samples(source) + noise).clip(0, 255).round().astype(np.uint8)
    Image.fromarray(noisy).save(source)
    for words in (("--sigma-y", 0.08), ("--estimate-noise",)):
        code, said = call(source, "-o", output, *words, "--seed", 1, "--model", model)
        assert code == 0, said
        assert np.abs(samples(output) - samples(source)).mean() > 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "nothing to undo"),
        (("--blur", 1, "--box-blur", 3), "at once"),
        (("--box-blur", 4), "box-blur: must be odd"),
        (("--blur-across", 1), "comes beside --blur"),
        (("--colourise", "--scale", 0.5), "scale: must be"),
        (("--mask", "absent.png"), "absent.png"),
        (("--downscale", "average", "--scale", 1.5), "scale: must be whole"),
        (("--sigma-y", 2), "sigma-y: must be between"),
        (("--sigma-y", 0.1, "--estimate-noise"), "estimate-noise: either this or --sigma-y"),
    ],
)
def test_calls_that_make_no_sense_are_refused(
    words: tuple[object, ...], complaint: str, source: Path, model: str
) -> None:
    code, said = call(source, "-o", source.with_name("out.png"), "--model", model, *words)
    assert code == 2 and complaint in said, said


def test_masks_that_do_not_fit_are_refused(source: Path, model: str) -> None:
    mask = source.with_name("mask.png")
    for size, level, complaint in (((3, 5), 0, "must be 24×20"), ((HEIGHT, WIDTH), 255, "nothing")):
        Image.fromarray(np.full(size, level, np.uint8)).save(mask)
        code, said = call(
            source, "-o", source.with_name("out.png"), "--mask", mask, "--model", model
        )
        assert code == 2 and complaint in said, said


def test_no_input_is_overwritten(source: Path, mask: Path, model: str) -> None:
    before = source.read_bytes(), mask.read_bytes()
    for output in (source, mask):
        code, said = call(source, "-o", output, "--mask", mask, "--model", model)
        assert code == 2 and "would overwrite" in said, said
    assert (source.read_bytes(), mask.read_bytes()) == before


def test_what_jpeg_loses_is_not_vouched_for(source: Path, model: str) -> None:
    code, said = call(source, "-o", source.with_name("out.jpg"), "--colourise", "--model", model)
    assert code == 0 and "before JPEG's losses, gives" in said, said


def test_other_files_are_refused(source: Path, model: str) -> None:
    code, said = call(source, "-o", source.with_name("out.gif"), "--colourise", "--model", model)
    assert code == 2 and "must end in .png" in said
    Image.fromarray(np.full((4, 4, 4), 9, np.uint8)).save(source)
    code, said = call(source, "-o", source.with_name("out.png"), "--colourise", "--model", model)
    assert code == 2 and "transparent" in said
