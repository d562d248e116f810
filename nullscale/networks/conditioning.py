"""What a transformer makes of prompt, noise level and shape alone: computed once, then looked up.

In SD3 every adaLN vector (scale, shift and gate of each block's norms) is a linear map of one
embedding of time and pooled prompt, the context embedding depends on the prompt, and the position
embedding on the tile's sides. The maps are a third of the weights, and every row of every batch of
a step wants the same few results.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sr_engine.model import PromptEmbeddings


# Traced into the blocks' graphs, where the tests' checks of annotations cannot follow.
@no_type_check
class Slice(nn.Module):
    """Stands where a norm had its linear map: its part of the vectors that are there already.

    The bounds are the same in all blocks of a kind, so that one compiled graph serves them.
    """

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, vectors: Tensor) -> Tensor:
        """Take [b, stop − start] out of [b, n]."""
        return vectors[:, self.start : self.stop]


class Conditioner(nn.Module):
    """The weights that conditioning takes, out of a transformer, which loses them.

    Attributes:
        widths: values that each block is modulated by, and last the final norm.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.time_text_embed = transformer.time_text_embed
        self.context_embedder = transformer.context_embedder
        norms = [[block.norm1, block.norm1_context] for block in transformer.transformer_blocks]
        norms.append([transformer.norm_out])
        self.maps = nn.ModuleList(norm.linear for together in norms for norm in together)
        self.widths = tuple(_take_maps(together) for together in norms)

    def context(self, prompt: PromptEmbeddings) -> Float[Tensor, "tokens dim"]:
        """Return the prompt's tokens as the blocks take them."""
        weight = self.context_embedder.weight
        embedded: Tensor = self.context_embedder(prompt.context.to(weight.device, self._dtype))
        return embedded

    def modulation(self, prompt: PromptEmbeddings, timestep: float) -> Float[Tensor, " n"]:
        """Return the vectors of all blocks, one after the other, and of the final norm."""
        device = self.context_embedder.weight.device
        # float32 whatever the network's dtype: bfloat16 knows no 947.
        time = torch.tensor([timestep], dtype=torch.float32, device=device)
        embedded = self.time_text_embed(time, prompt.pooled[None].to(device, self._dtype))
        activated = nn.functional.silu(embedded)
        return torch.cat([each(activated) for each in self.maps], dim=1)[0]

    @property
    def _dtype(self) -> torch.dtype:
        # Of a bias: quantised weights have a type of their own.
        dtype: torch.dtype = self.context_embedder.bias.dtype
        return dtype


class Table:
    """Tensors by key, the least recently used forgotten beyond ``budget_bytes``. Not thread-safe.

    What was looked up last always stays, whatever its size. A copy of a table is empty.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.bytes = 0
        self._entries: OrderedDict[Hashable, tuple[Tensor | None, Tensor]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __deepcopy__(self, memo: object) -> "Table":
        return Table(self.budget_bytes)

    def look_up(
        self, key: Hashable, make: Callable[[], Tensor], owner: Tensor | None = None
    ) -> Tensor:
        """Return the tensor of `key`, made if it is not there.

        owner: what the key has the ``id`` of; it lives as long as the entry, so that no other
            tensor can come by that id meanwhile.
        """
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key][1]
        found = make()
        self._entries[key] = owner, found
        self.bytes += _bytes(owner, found)
        while self.bytes > self.budget_bytes and len(self._entries) > 1:
            _, forgotten = self._entries.popitem(last=False)
            self.bytes -= _bytes(*forgotten)
        return found


def _bytes(*tensors: Tensor | None) -> int:
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def _take_maps(norms: list[Any]) -> int:
    """Put slices in the place of the norms' maps; return how many values they share."""
    start = 0
    for norm in norms:
        stop = start + norm.linear.out_features
        norm.silu, norm.linear = nn.Identity(), Slice(start, stop)
        start = stop
    return start
