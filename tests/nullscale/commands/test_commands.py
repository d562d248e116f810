"""The commands: what they write, what they say, and the exit codes."""

from pathlib import Path

import numpy as np
import pytest
from checkpoints import write_checkpoint
from PIL import Image
from typer.testing import CliRunner

from nullscale.commands.main import app
from nullscale.commands.picture_files import plan_jobs
from nullscale.errors import NullscaleError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("model")))


def photo(path: Path, height: int = 7, width: int = 9) -> Path:
    rows = np.linspace(40, 200, height * width * 3).reshape(height, width, 3)
    Image.fromarray(rows.astype(np.uint8)).save(path)
    return path


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def test_upscale_writes_a_picture_that_gives_its_input_back(tmp_path: Path, model: str) -> None:
    source, target = photo(tmp_path / "in.png"), tmp_path / "new" / "out.png"
    code, output = call(
        "upscale", source, "-o", target, "--scale", 3, "--num-inference-steps", 2,
        "--guidance-strength", 0.8, "--seed", 7, "--model", model,
    )  # fmt: skip
    assert code == 0, output
    assert "seed 7" in output
    assert "gives its input back exactly" in output
    with Image.open(target) as large, Image.open(source) as small:
        assert large.size == (27, 21)
        back = large.resize(small.size, Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(np.asarray(back), np.asarray(small))


def test_upscale_keeps_transparency(tmp_path: Path, model: str) -> None:
    source, target = tmp_path / "in.png", tmp_path / "out.webp"
    rows = np.linspace(40, 200, 7 * 9).reshape(7, 9).astype(np.uint8)
    Image.fromarray(np.dstack([rows, rows, rows, rows[::-1]])).save(source)
    code, output = call("upscale", source, "-o", target, "--scale", 2, "--model", model)
    assert code == 0 and "gives its input back exactly" in output, output
    with Image.open(target) as large, Image.open(source) as small:
        back = large.convert("RGBa").resize(small.size, Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(np.asarray(back), np.asarray(small.convert("RGBa")))


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path, model: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    photo(folder / "a.png")
    (folder / "b.png").write_bytes(b"no picture")
    photo(folder / "c.png")
    (folder / "notes.txt").write_text("not looked at")
    code, output = call("upscale", folder, "-o", tmp_path / "out", "--model", model, "--scale", 2)
    assert code == 1
    assert "b.png" in output
    assert "1 of 3 pictures failed" in output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--scale", "0.5"), "--scale: must be between"),
        (("--scale", "nan"), "--scale: must be a finite number"),
        (("--num-inference-steps", "0"), "--num-inference-steps: must be between"),
        (("--projection", "sideways"), "Invalid value"),
        (("--unknown", "1"), "No such option"),
    ],
)
def test_a_wrong_call_ends_with_2_before_the_model_is_loaded(
    tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    source = photo(tmp_path / "in.png")
    code, output = call("upscale", source, "-o", tmp_path / "o.png", "--model", "/nowhere", *words)
    assert code == 2
    assert complaint in output


def test_a_missing_model_ends_with_3_and_one_line(tmp_path: Path) -> None:
    code, output = call("upscale", photo(tmp_path / "in.png"), "-o", "o.png", "--model", "/nowhere")
    assert code == 3
    assert "Traceback" not in output


def test_info_prints_model_device_and_defaults(model: str) -> None:
    code, output = call("info", "--model", model, "--device", "cpu")
    assert code == 0
    for word in ("cpu (float32)", "native size      64 px", "num_inference_steps", "16,777,216"):
        assert word in output


def test_what_fits_is_said_without_weights(tmp_path: Path) -> None:
    code, output = call("info", "--fits", "--model", "bundled")
    assert code == 0
    for word in ("sd3.5-medium", "sd3.5-large", "nf4", "80 GB"):
        assert word in output
    code, output = call("info", "--fits", "--model", tmp_path)
    assert code == 3 and "transformer/config.json is missing" in output


def test_fewer_bits_without_a_gpu_are_refused_in_one_line(model: str) -> None:
    code, output = call("info", "--model", model, "--device", "cpu", "--quantize", "nf4")
    assert code == 3 and "needs a CUDA device" in output


def test_several_pictures_need_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NullscaleError, match="cannot all become"):
        plan_jobs([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out.png")
    with pytest.raises(NullscaleError, match="same name"):
        plan_jobs([tmp_path / "a.png", tmp_path / "a.jpg"], tmp_path / "out")
    with pytest.raises(NullscaleError, match="overwrite"):
        plan_jobs([tmp_path / "a.png"], tmp_path)
    with pytest.raises(NullscaleError, match="no pictures"):
        plan_jobs([tmp_path], tmp_path / "out")


def test_samples_are_averaged_and_their_spread_is_drawn(tmp_path: Path, model: str) -> None:
    source, maps = photo(tmp_path / "in.png"), tmp_path / "maps"
    code, output = call(
        "upscale", source, "-o", tmp_path / "out.png", "--scale", 2, "--num-inference-steps", 2,
        "--seed", 7, "--samples", 3, "--spread", maps, "--model", model,
    )  # fmt: skip
    assert code == 0, output
    assert "seeds 7 to 9" in output and "gives its input back exactly" in output
    with Image.open(maps / "out.png") as spread:
        assert (spread.mode, spread.size) == ("L", (18, 14))
        assert spread.getextrema()[1] == 255


def test_a_preset_may_be_changed_in_part(tmp_path: Path, model: str) -> None:
    source, target = photo(tmp_path / "in.png"), tmp_path / "out.png"
    words = ("upscale", source, "-o", target, "--scale", 2, "--seed", 7, "--model", model)
    code, output = call(*words, "--preset", "fast")
    assert code == 0 and "gives its input back exactly" in output, output
    code, output = call(*words, "--preset", "faithful", "--num-inference-steps", 2)
    assert code == 0 and "of its input back (" in output, output
    code, output = call(*words, "--preset", "faithful", "--ending", "pixels")
    assert code == 0 and "gives its input back exactly" in output, output


def test_what_is_known_to_be_noise_is_not_given_back(tmp_path: Path, model: str) -> None:
    source, target = tmp_path / "in.jpg", tmp_path / "out.png"
    levels = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    Image.fromarray(levels.astype(np.uint8)).save(source, quality=20)
    words = ("upscale", source, "-o", target, "--scale", 2, "--seed", 7, "--model", model)
    for noise in (("--sigma-y", 0.1), ("--estimate-noise",)):
        code, output = call(*words, *noise)
        assert code == 0 and "of its input back (" in output, output
    code, output = call(*words, "--estimate-noise", "--sigma-y", 0.1)
    assert code == 2 and "either this or" in output


def test_one_sample_has_no_spread(tmp_path: Path, model: str) -> None:
    source = photo(tmp_path / "in.png")
    code, output = call(
        "upscale", source, "-o", tmp_path / "out.png", "--spread", tmp_path, "--model", model
    )
    assert code == 2 and "--spread: a single sample has none" in output


def test_maps_overwrite_no_picture(tmp_path: Path, model: str) -> None:
    source = photo(tmp_path / "in.png")
    before = source.read_bytes()
    for target in (tmp_path / "out.png", tmp_path / "more" / "in.png"):
        code, output = call(
            "upscale", source, "-o", target,
            "--samples", 2, "--spread", tmp_path, "--model", model,
        )  # fmt: skip
        assert code == 2 and "a map would overwrite a picture" in output
    assert source.read_bytes() == before
