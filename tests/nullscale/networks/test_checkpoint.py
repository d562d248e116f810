"""A checkpoint that cannot be used is one clear line, wherever it came from."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from checkpoints import write_checkpoint
from fake_hub import HUB_ID, FakeHub, serve_hub
from safetensors.torch import load_file, save_file

from nullscale.errors import ModelLoadError
from nullscale.networks.checkpoint import BUNDLED_FOLDER, find_checkpoint
from nullscale.networks.loading import load_model

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint of one's own to damage."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def test_the_bundled_model_is_part_of_the_package() -> None:
    assert find_checkpoint("bundled") == BUNDLED_FOLDER
    assert BUNDLED_FOLDER.parent.name == "networks"


@pytest.mark.parametrize("source", ["./no/such/folder", "nowhere", "a/b/c", "", "../x/y"])
def test_no_such_folder(source: str) -> None:
    assert_refused(source, "no such folder")


@pytest.mark.parametrize(
    "file", ["transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json"]
)
def test_a_missing_part_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert_refused(folder, f"{file} is missing")


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_missing_weights(folder: Path, part: str) -> None:
    (folder / part / WEIGHTS).unlink()
    assert_refused(folder, rf"{part}: there are no weights")


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_pickled_weights_are_refused(folder: Path, part: str) -> None:
    weights = folder / part / WEIGHTS
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    assert_refused(folder, "pickled")


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_damaged_weights(folder: Path, part: str) -> None:
    weights = folder / part / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert_refused(folder, f"{part}: cannot be read")


def test_weights_that_are_not_all_there(folder: Path) -> None:
    """Diffusers would go on with random numbers."""
    weights = folder / "transformer" / WEIGHTS
    tensors = load_file(weights)
    del tensors["proj_out.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    assert_refused(folder, r"incomplete, 1 weights are missing, proj_out\.weight among them")


def test_weights_of_another_shape(folder: Path) -> None:
    edit(folder / "transformer/config.json", caption_projection_dim=16)
    assert_refused(folder, "transformer: cannot be read")


def test_another_class_of_network(folder: Path) -> None:
    edit(folder / "transformer/config.json", _class_name="UNet2DConditionModel")
    assert_refused(folder, "of class UNet2DConditionModel, not SD3Transformer2DModel")


def test_parts_that_do_not_belong_together(folder: Path) -> None:
    save_file(
        {"prompt_embeds": torch.zeros(1, 1, 7), "pooled_prompt_embeds": torch.zeros(1, 24)},
        folder / "empty_prompt.safetensors",
    )
    assert_refused(folder, "width of the empty prompt is 7, the transformer's is 32")


def test_a_file_that_is_no_json(folder: Path) -> None:
    (folder / "vae/config.json").write_text("{")
    assert_refused(folder, "no readable JSON")


@pytest.mark.parametrize(
    "option",
    [
        {"use_dynamic_shifting": True},
        {"use_karras_sigmas": True},
        {"shift_terminal": 0.1},
        {"stochastic_sampling": True},
    ],
)
def test_scheduler_options_that_we_do_not_follow(folder: Path, option: dict[str, object]) -> None:
    edit(folder / "scheduler/scheduler_config.json", **option)
    assert_refused(folder, f"asks for {next(iter(option))}, which is not supported")


@pytest.mark.parametrize("shift", [0, -1, "3", None])
def test_a_shift_that_is_none(folder: Path, shift: object) -> None:
    edit(folder / "scheduler/scheduler_config.json", shift=shift)
    assert_refused(folder, "no valid shift")


@pytest.mark.parametrize(
    "content", [{"defaults": {"eta": 7}}, {"defaults": {"nonsense": 1}}, {"defaults": 3}, []]
)
def test_defaults_out_of_range(folder: Path, content: object) -> None:
    (folder / "nullscale.json").write_text(json.dumps(content))
    assert_refused(folder, r"nullscale\.json: ")


@pytest.mark.parametrize(
    ("option", "says"), [({"device": "abacus"}, "abacus"), ({"dtype": "int8"}, "int8")]
)
def test_unknown_device_or_dtype(folder: Path, option: dict[str, str], says: str) -> None:
    with pytest.raises(ModelLoadError, match=says):
        load_model(str(folder), **option)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The hub's client talks to a server of our own, with an empty cache and no token."""
    fake = FakeHub(tmp_path / "hub")
    with serve_hub(fake) as url:
        client = huggingface_hub.constants
        monkeypatch.setattr(client, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(client, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(client, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(client, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield fake
        huggingface_hub.close_session()


def test_a_hub_id_is_downloaded_without_what_nobody_reads(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(hub.folder, text_encoders=True)
    unread = ["sd3.5.safetensors", "text_encoders/t5xxl.safetensors", "README.md"]
    unread += ["text_encoder/model.fp16.safetensors", "transformer/model.bin"]
    for path in unread:
        (hub.folder / path).parent.mkdir(exist_ok=True)
        (hub.folder / path).write_bytes(b"gigabytes")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    model = load_model(HUB_ID, device="cpu")

    assert model.info.name == HUB_ID
    assert model.encode_prompt("a fox").context.isfinite().all()
    assert not [path for path in hub.asked if path in unread]
    assert hub.tokens == {"Bearer hf_secret"}

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert load_model(HUB_ID, device="cpu").info == model.info
    assert not hub.asked


@pytest.mark.parametrize("status", [{"status": 401}, {"status": 403}, {"files_status": 403}])
def test_a_gated_model_says_where_the_licence_is(hub: FakeHub, status: dict[str, int]) -> None:
    write_checkpoint(hub.folder)
    hub.status, hub.files_status = status.get("status", 200), status.get("files_status", 200)
    hub.error_code = "GatedRepo"
    line = assert_refused(HUB_ID, "gated: accept the licence at .* and set HF_TOKEN")
    assert f"https://huggingface.co/{HUB_ID}" in line
    assert hub.tokens == {None}


def test_a_model_that_is_not_there(hub: FakeHub) -> None:
    hub.status, hub.error_code = 404, "RepoNotFound"
    assert_refused(HUB_ID, "neither such a folder nor such a model")


def test_a_hub_out_of_order(hub: FakeHub) -> None:
    hub.status = 418
    assert_refused(HUB_ID, HUB_ID)


def test_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert_refused(HUB_ID, "hub cannot be reached")


def test_offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert_refused(HUB_ID, "hub cannot be reached.*HF_HUB_OFFLINE")
    assert not hub.asked


def assert_refused(source: Path | str, says: str) -> str:
    """Loading fails with one line that matches; returns that line."""
    with pytest.raises(ModelLoadError) as caught:
        load_model(str(source), device="cpu")
    line = str(caught.value)
    assert re.search(says, line), line
    assert "\n" not in line and len(line) < 500
    return line


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
