"""How much memory weights and activations take, and what therefore fits on a GPU.

Nothing here needs weights: modules on the meta device have the shapes of real ones, and running one
there allocates, in name, what the real one would.
"""

import math
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

from nullscale.scheduling.work import Phase
from sr_engine.plan import BYTES_A_PIXEL

Quantization = Literal["nf4", "fp8"]
QUANTIZATIONS: tuple[str, ...] = get_args(Quantization)

RESERVED_BYTES = 10**9
"""Of a GPU: the CUDA context, workspaces of cuBLAS and cuDNN, one dequantised layer."""

GPU_GB = (16, 24, 40, 80)
"""Sizes of GPUs, in 10⁹ bytes: what is sold as 24 GB has between 22.5 and 24 GiB."""

_NF4_BLOCK = 64  # weights that share a scale, bitsandbytes' own number
_SCALE_BYTES = 4


def memory_estimate(*networks: nn.Module, dtype: torch.dtype) -> int:
    """Bytes that the weights and buffers of `networks` take in `dtype`; meta tensors will do."""
    values: int = sum(t.numel() for network in networks for t in network.state_dict().values())
    itemsize: int = dtype.itemsize
    return values * itemsize


def weight_bytes(*networks: nn.Module, device: torch.device | None = None) -> int:
    """Bytes that loaded weights and buffers take as they are, quantised ones with their scales.

    What networks share counts once.

    Args:
        device: count what lies there alone; an offloaded conditioner does not.
    """
    tensors = {
        id(t): t for network in networks for t in network.state_dict(keep_vars=True).values()
    }
    here = (t for t in tensors.values() if device is None or t.device.type == device.type)
    return sum(_bytes(t) for t in here)


def parameter_count(*networks: nn.Module) -> int:
    """Weights, however they are packed."""
    return sum(
        # bitsandbytes puts two into a byte, and keeps the shape aside.
        math.prod(state.shape) if (state := getattr(p, "quant_state", None)) else p.numel()
        for network in networks
        for p in network.parameters()
    )


def quantized_estimate(network: nn.Module, dtype: torch.dtype, quantize: str | None) -> int:
    """Bytes of a network's weights once its linear layers are quantised; meta tensors will do.

    ``fp8``: a byte a weight, and a scale for each output (torchao, weights only). ``nf4``: half a
    byte, and a scale for each 64 weights (bitsandbytes). Everything else stays in ``dtype``.
    """
    whole = memory_estimate(network, dtype=dtype)
    if quantize is None:
        return whole
    for layer in network.modules():
        if not isinstance(layer, nn.Linear):
            continue
        count = layer.weight.numel()
        packed, scales = {
            "fp8": (count, layer.out_features),
            "nf4": (math.ceil(count / 2), math.ceil(count / _NF4_BLOCK)),
        }[quantize]
        whole += packed + _SCALE_BYTES * scales - count * dtype.itemsize
    return whole


def row_bytes(transformer: Any, vae: Any, side_px: int, *, tokens: int = 333) -> dict[Phase, int]:
    """Bytes that one row of a square tile takes while its phase runs; rows add up.

    The networks must be on the meta device, in the dtype that they run in. Counted are all tensors
    that are alive at once at the worst moment of a stock module, run eagerly; an attention that
    never holds its matrix is taken for granted. What libraries use inside a call is not counted.

    Args:
        side_px: of the tile, in pixels.
        tokens: of a prompt; SD3.5's have 77 + 256.
    """
    dtype, config = next(transformer.parameters()).dtype, transformer.config
    cells = side_px // 2 ** (len(vae.config.block_out_channels) - 1)
    empty = {"dtype": dtype, "device": "meta"}
    latents = torch.empty(1, config.in_channels, cells, cells, **empty)
    pixels = torch.empty(1, 3, side_px, side_px, **empty)
    context = torch.empty(1, tokens, config.joint_attention_dim, **empty)
    pooled = torch.empty(1, config.pooled_projection_dim, **empty)
    time = torch.empty(1, device="meta")
    calls: dict[Phase, tuple[nn.Module, Callable[[], object]]] = {
        Phase.DENOISE: (transformer, lambda: transformer(latents, context, pooled, time)),
        Phase.DECODE: (vae, lambda: vae.decode(latents)),
        Phase.ENCODE: (vae, lambda: vae.encode(pixels)),
    }
    return {phase: peak_bytes(call, network) for phase, (network, call) in calls.items()}


@torch.no_grad()
def peak_bytes(call: Callable[[], object], *networks: nn.Module) -> int:
    """The most bytes that tensors made by ``call`` take at one time, on whatever device.

    Weights of ``networks`` are not counted, nor views of them.
    """
    alive = _Alive(t for network in networks for t in network.state_dict().values())
    with _FusedAttention(), alive:
        call()
    return alive.peak


@dataclass(frozen=True, slots=True)
class Fit:
    """What there is room for beside the weights.

    Attributes:
        rows: of a batch, by phase.
        megapixels: of output that requests may have under way in all (``max_active_pixels``).
    """

    rows: Mapping[Phase, int]
    megapixels: float


def fit(
    gpu_bytes: int,
    weights: int,
    row: Mapping[Phase, int],
    limits: Mapping[Phase, int],
    *,
    least_pixels: int,
) -> Fit | None:
    """Divide what a GPU's memory has left between batches and pictures; None: not even one row.

    A batch gets no more than half of it, in rows a power of two, as caps grow; pictures have the
    rest.

    Args:
        row: bytes of a row, by phase; phases run one after the other.
        limits: the most rows of a batch.
        least_pixels: of the smallest picture that is to have room.
    """
    room = gpu_bytes - RESERVED_BYTES - weights
    if room < max(row.values()) + least_pixels * BYTES_A_PIXEL:
        return None
    rows = {
        phase: 2 ** int(math.log2(min(limits[phase], max(1, room // 2 // row[phase]))))
        for phase in row
    }
    left = room - max(rows[phase] * row[phase] for phase in row)
    return Fit(rows, left / BYTES_A_PIXEL / 1e6)


def _bytes(tensor: Tensor) -> int:
    """Size of what a tensor holds; a torchao weight only wraps the tensors that do."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return sum(_bytes(getattr(tensor, name)) for name in names)
    return tensor.numel() * tensor.element_size()


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that were made while it is on and are still there."""

    def __init__(self, known: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known = WeakIdKeyDictionary()
        for tensor in known:
            self._known[tensor.untyped_storage()] = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._take, made)
        self.peak = max(self.peak, self.now)
        return made

    def _take(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known[storage] = None
        size = storage.nbytes()
        self.now += size
        weakref.finalize(storage, self._drop, size)

    def _drop(self, size: int) -> None:
        self.now -= size


class _FusedAttention(TorchFunctionMode):
    """Lets attention allocate its result alone, as fused kernels do; on meta there is none."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        given = {**dict(zip(("query", "key", "value"), args, strict=False)), **(kwargs or {})}
        query, value = given["query"], given["value"]
        return query.new_empty(*query.shape[:-1], value.shape[-1])
