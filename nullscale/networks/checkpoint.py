"""Where the files of a checkpoint are: the bundled folder, any other folder, or the hub's cache.

A checkpoint is a folder in the diffusers format, with ``transformer/``, ``vae/`` and
``scheduler/``, weights in safetensors only. Every way in which it can be wrong is told in one line.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import safe_open

from nullscale.errors import InvalidParameter, ModelLoadError
from nullscale.maths.params import UpscaleParams

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent / "bundled"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# SD3.5's repositories hold everything again as single files (at the root and in text_encoders/)
# and as fp16 twins, which nothing here reads.
HUB_FILES = (
    "*.json",
    "empty_prompt.safetensors",
    "transformer/*.safetensors",
    "vae/*.safetensors",
    "vae_draft/*.safetensors",
    "text_encoder/*.safetensors",
    "text_encoder_2/*.safetensors",
    "text_encoder_3/*.safetensors",
    "tokenizer*/*",
)
HUB_FILES_UNUSED = ("*.fp16*",)
# Options of diffusers' scheduler that change the noise levels or the step in ways we do not follow.
SCHEDULER_OPTIONS_UNSUPPORTED = (
    "use_dynamic_shifting",
    "shift_terminal",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "invert_sigmas",
    "stochastic_sampling",
)


def find_checkpoint(source: str, files: Sequence[str] = HUB_FILES) -> Path:
    """Folder of the checkpoint that `source` names: "bundled", a folder, or a hub id.

    Of a hub id `files` are downloaded into the hub's own cache, with the token in $HF_TOKEN if
    there is one.

    Raises:
        ModelLoadError: nothing can be found under that name; the text says what to do.
    """
    if source == BUNDLED:
        return BUNDLED_FOLDER
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(source):
        raise ModelLoadError(f"{source}: there is no such folder, and it is no hub id (owner/name)")
    return _download(source, files)


def read_config(folder: Path, file: str, class_name: str) -> dict[str, Any]:
    """Configuration of one component, `file` relative to `folder`, of diffusers' `class_name`.

    Raises:
        ModelLoadError: it is missing, unreadable, or of another class.
    """
    config = read_json(folder / file)
    if config is None:
        raise ModelLoadError(f"{folder}: no diffusers-format checkpoint, {file} is missing")
    found = config.get("_class_name")
    if found != class_name:
        raise ModelLoadError(
            f"{folder}: {file} is of class {found}, not {class_name}; only Stable Diffusion 3 and "
            "3.5 checkpoints can be used"
        )
    return config


def read_scheduler(folder: Path) -> tuple[float, int]:
    """Shift of the noise levels and the time that stands for σ = 1, of a flow-matching scheduler.

    Raises:
        ModelLoadError: it is no such scheduler, or asks for what our sampler does not do.
    """
    file = "scheduler/scheduler_config.json"
    config = read_config(folder, file, "FlowMatchEulerDiscreteScheduler")
    if used := [name for name in SCHEDULER_OPTIONS_UNSUPPORTED if config.get(name)]:
        raise ModelLoadError(f"{folder}: {file} asks for {used[0]}, which is not supported")
    shift, steps = config.get("shift", 1.0), config.get("num_train_timesteps", 1000)
    if not isinstance(shift, int | float) or shift <= 0 or not isinstance(steps, int) or steps < 1:
        raise ModelLoadError(f"{folder}: {file} has no valid shift and num_train_timesteps")
    return float(shift), steps


def read_defaults(folder: Path) -> UpscaleParams:
    """Parameters under ``defaults`` in the checkpoint's own ``nullscale.json``, if it has one.

    Raises:
        ModelLoadError: the file has an unknown name or a value out of range.
    """
    content = read_json(folder / "nullscale.json") or {}
    try:
        return UpscaleParams().override(content.get("defaults", {}))
    except (InvalidParameter, TypeError, AttributeError) as err:
        raise ModelLoadError(f"{folder}: nullscale.json: {one_line(err)}") from err


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None where there is no file.

    Raises:
        ModelLoadError: the file holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as err:
        raise ModelLoadError(f"{path}: no readable JSON: {one_line(err)}") from err
    if not isinstance(content, dict):
        raise ModelLoadError(f"{path}: expected a JSON object")
    return content


def check_weights(folder: Path) -> None:
    """Makes sure that a component's weights are there as safetensors.

    Raises:
        ModelLoadError: there are none, or only pickled ones, which can run code when they are read.
    """
    if any(folder.glob("*.safetensors")):
        return
    if any(
        path for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern)
    ):
        raise ModelLoadError(
            f"{folder}: its weights are pickled, which is unsafe to read; save them again with "
            "save_pretrained(safe_serialization=True)"
        )
    raise ModelLoadError(f"{folder}: there are no weights (*.safetensors); it is incomplete")


def check_unquantized(folder: Path) -> None:
    """Makes sure that a component's weights are wide enough to be kept in fewer bits.

    Raises:
        ModelLoadError: some are in float8 already.
    """
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            names = file.keys()
            if any(file.get_slice(name).get_dtype().startswith("F8") for name in names):
                raise ModelLoadError(
                    f"{folder}: some of its weights are in float8 already; load it unquantized"
                )


def one_line(err: BaseException) -> str:
    """An error's text on one line of a readable length."""
    text = " ".join(str(err).split()) or type(err).__name__
    return text if len(text) <= 300 else text[:299] + "…"


def _download(hub_id: str, files: Sequence[str]) -> Path:
    try:
        return Path(
            huggingface_hub.snapshot_download(
                hub_id,
                allow_patterns=list(files),
                ignore_patterns=list(HUB_FILES_UNUSED),
                # False keeps the hub client from looking for other tokens on this machine.
                token=os.environ.get("HF_TOKEN") or False,
            )
        )
    except GatedRepoError as err:
        raise ModelLoadError(
            f"{hub_id} is gated: accept the licence at https://huggingface.co/{hub_id} and set "
            "HF_TOKEN to a token of that account"
        ) from err
    except RepositoryNotFoundError as err:
        raise ModelLoadError(
            f"{hub_id}: there is neither such a folder nor such a model on the hub (a private one "
            "needs HF_TOKEN)"
        ) from err
    except LocalEntryNotFoundError as err:
        raise ModelLoadError(
            f"{hub_id} is not complete in the local cache and the hub cannot be reached: check the "
            "network and HF_HUB_OFFLINE, or give a folder"
        ) from err
    except HfHubHTTPError as err:
        raise ModelLoadError(f"{hub_id}: the hub refused the download: {one_line(err)}") from err
    except Exception as err:  # the hub client lets its HTTP library's own errors through
        raise ModelLoadError(f"{hub_id}: the download failed: {one_line(err)}") from err
