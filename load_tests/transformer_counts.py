"""Weights read and operations done in one call of SD3.5's transformer, before and after.

    python load_tests/transformer_counts.py

On the meta device: no weights, no GPU, exact. The last line of each model is JSON.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nullscale.networks.fast_transformer import FastTransformer
from nullscale.networks.published import PUBLISHED, TOKENS
from sr_engine.model import PromptEmbeddings


class WeightReads(TorchDispatchMode):
    """Adds up the bytes of a module's weights and buffers that operations take in."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        tensors = (*module.parameters(), *module.buffers())
        self._ours = {tensor.untyped_storage()._cdata for tensor in tensors}
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # A view reads nothing.
        if not any(returned.alias_info for returned in func._schema.returns):
            for each in torch.utils._pytree.tree_leaves((args, kwargs)):
                if isinstance(each, Tensor) and each.untyped_storage()._cdata in self._ours:
                    self.bytes += each.nbytes
        return func(*args, **(kwargs or {}))


def counts(
    config: Mapping[str, Any], side: int = 128, rows: int = 1
) -> dict[str, dict[str, float]]:
    """Return weights on the device, weights read and operations of a call on [rows, 16, side²].

    ``stock`` is diffusers' module; ``first`` the fast one when it knows nothing, ``fast`` when
    prompt, noise level and shape are tabulated, its conditioner on the host.
    """
    with torch.device("meta"):
        stock = SD3Transformer2DModel(**config).bfloat16()
        latents = torch.empty(rows, config["in_channels"], side, side, dtype=torch.bfloat16)
        context = torch.empty(TOKENS, config["joint_attention_dim"], dtype=torch.bfloat16)
        pooled = torch.empty(config["pooled_projection_dim"], dtype=torch.bfloat16)
        times = torch.empty(rows)
    found = {}

    @contextmanager
    def counting(name: str, module: nn.Module) -> Iterator[None]:
        resident = sum(t.nbytes for t in module.state_dict().values())
        with WeightReads(module) as reads, FlopCounterMode(display=False) as flops:
            yield
        found[name] = {
            "resident_gb": resident / 1e9,
            "read_gb": reads.bytes / 1e9,
            "tflop": flops.get_total_flops() / 1e12,
        }

    with torch.no_grad():
        with counting("stock", stock):
            stock(
                latents,
                encoder_hidden_states=context.expand(rows, -1, -1),
                pooled_projections=pooled.expand(rows, -1),
                timestep=times,
            )
        fast, prompt = FastTransformer(stock), PromptEmbeddings(context, pooled)
        for name in ("first", "fast"):
            with counting(name, fast):
                fast(latents, [500.0] * rows, [prompt] * rows)
    conditioner = sum(t.nbytes for t in fast.conditioner.state_dict().values()) / 1e9
    found["fast"]["resident_gb"] -= conditioner
    found["fast"]["table_mb"] = 2 * sum(fast.conditioner.widths) / 1e6
    return found


def main() -> None:
    """Print both models' counts."""
    for name, architecture in PUBLISHED.items():
        print(json.dumps({"model": name, **counts(architecture.transformer)}))


if __name__ == "__main__":
    main()
