"""Fewer bits: what is refused, and what diffusers is told."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nullscale.errors import ModelLoadError
from nullscale.networks.checkpoint import BUNDLED_FOLDER
from nullscale.networks.loading import _load, load_model
from nullscale.networks.quantization import quantization_config

CUDA = torch.device("cuda")


@pytest.mark.parametrize(
    ("quantize", "device", "words"),
    [
        ("int3", "cuda", "quantize 'int3' is unknown: use nf4 or fp8"),
        ("nf4", "cpu", "quantize 'nf4' needs a CUDA device, not cpu"),
        ("nf4", "cuda", r"needs the library bitsandbytes: pip install 'nullscale\[quantize\]'"),
        ("fp8", "cpu", r"needs the library torchao: pip install 'nullscale\[quantize\]'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(quantize: str, device: str, words: str) -> None:
    with pytest.raises(ModelLoadError, match=words) as caught:
        quantization_config(quantize, torch.device(device), torch.bfloat16, lambda name: None)
    assert len(str(caught.value).splitlines()) == 1


def test_it_is_said_before_anything_is_read() -> None:
    with pytest.raises(ModelLoadError, match="needs a CUDA device"):
        load_model("/nowhere", device="cpu", quantize="nf4")


class SD3Transformer2DModel(nn.Module):
    """Takes note of how it was to be read."""

    given: dict[str, Any]

    @classmethod
    def from_pretrained(cls, folder: Path, **given: Any) -> tuple[nn.Module, dict[str, Any]]:
        cls.given = given
        return cls(), {"missing_keys": []}


def test_a_quantisation_reaches_diffusers_with_the_device(tiny_checkpoint: Path) -> None:
    wanted, place = object(), torch.device("cuda", 1)
    _load(SD3Transformer2DModel, tiny_checkpoint, "transformer", torch.bfloat16, wanted, place)
    given = SD3Transformer2DModel.given
    assert given["quantization_config"] is wanted
    assert given["device_map"] == {"": place}
    _load(SD3Transformer2DModel, tiny_checkpoint, "transformer", torch.bfloat16)
    assert not {"quantization_config", "device_map"} & SD3Transformer2DModel.given.keys()


def test_what_is_in_float8_already_is_not_quantised() -> None:
    with pytest.raises(ModelLoadError, match="in float8 already; load it unquantized"):
        _load(SD3Transformer2DModel, BUNDLED_FOLDER, "transformer", torch.bfloat16, object(), CUDA)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra")
def test_nf4_computes_in_the_models_dtype() -> None:
    config = quantization_config("nf4", CUDA, torch.bfloat16)
    assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "nf4")
    assert config.bnb_4bit_compute_dtype == torch.bfloat16


@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="needs the extra")
def test_fp8_is_of_the_weights_alone() -> None:
    config = quantization_config("fp8", CUDA, torch.bfloat16)
    assert type(config.quant_type).__name__ == "Float8WeightOnlyConfig"
