"""The seed repository's options still work, the token with a warning."""

import os
from pathlib import Path

import pytest
import typer
from checkpoints import write_checkpoint
from PIL import Image
from typer.testing import CliRunner

from nullscale.commands.seed import upscale


def test_the_old_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "from the environment")
    model = write_checkpoint(tmp_path / "model")
    source, target = tmp_path / "lr.png", tmp_path / "sr.png"
    Image.new("RGB", (5, 4), (90, 120, 30)).save(source)
    app = typer.Typer()
    app.command()(upscale)
    result = CliRunner().invoke(
        app,
        [
            "--hf_token", "secret", "--lr_img_path", str(source), "--num_inference_steps", "2",
            "--guidance_strength", "0.8", "--scale", "4", "--savepath", str(target),
            "--model", str(model),
        ],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "warning: a token on the command line" in result.output
    assert "secret" not in result.output
    assert os.environ["HF_TOKEN"] == "secret"
    with Image.open(target) as large:
        assert large.size == (20, 16)
