"""A transformer's weights in fewer bits, by the libraries that diffusers supports.

Only linear layers change, and only in how they are kept: each is turned back into the model's dtype
when it computes.
"""

from importlib.util import find_spec
from typing import Any

import torch

from nullscale.errors import ModelLoadError
from nullscale.networks.memory import QUANTIZATIONS

_LIBRARIES = {"nf4": "bitsandbytes", "fp8": "torchao"}


def quantization_config(
    quantize: str, device: torch.device, dtype: torch.dtype, find: Any = find_spec
) -> Any:
    """What `from_pretrained` takes as ``quantization_config``.

    nf4: four bits of a normal distribution's quantiles, a scale for each 64 (QLoRA, section 3).
    fp8: float8 e4m3, a scale for each output.

    Args:
        find: of an importable module; None where there is none.

    Raises:
        ModelLoadError: the name is unknown, its library is missing, or the device is none for it.
    """
    if quantize not in QUANTIZATIONS:
        raise ModelLoadError(f"quantize {quantize!r} is unknown: use {' or '.join(QUANTIZATIONS)}")
    library = _LIBRARIES[quantize]
    # Float8 is only how weights are kept; bitsandbytes computes with its four bits.
    if quantize == "nf4" and device.type != "cuda":
        raise ModelLoadError(f"quantize {quantize!r} needs a CUDA device, not {device.type}")
    if find(library) is None:
        raise ModelLoadError(
            f"quantize {quantize!r} needs the library {library}: pip install 'nullscale[quantize]'"
        )
    return _nf4(dtype) if quantize == "nf4" else _fp8()


def _nf4(dtype: torch.dtype) -> Any:
    from diffusers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def _fp8() -> Any:
    from diffusers import TorchAoConfig
    from torchao.quantization import Float8WeightOnlyConfig

    # It would change torch.compile's settings for everything else in the process.
    return TorchAoConfig(Float8WeightOnlyConfig(set_inductor_config=False))
