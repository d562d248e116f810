"""A model that keeps count of its batches and of the time they take, for any way of serving."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from gpu_report import Figures, rounded
from torch import Tensor

from nullscale.scheduling.work import Kind, Phase, Variant
from sr_engine.engine import SREngine
from sr_engine.model import Model, PromptEmbeddings


class Watched:
    """Hands everything on to a model.

    Attributes:
        most_rows: larger batches do not fit, as far as anyone can tell.
        refused: batches that did not fit.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.info, self.defaults = model.info, model.defaults
        self.empty_prompt = model.empty_prompt
        self._cuda = model.info.device.startswith("cuda")
        self._engine: SREngine | None = None
        self.most_rows: int | None = None
        self.forget()

    def engine(self) -> SREngine:
        """Return an engine on this model, whose caps count as full batches."""
        self._engine = SREngine(self)
        return self._engine

    def forget(self) -> None:
        """Begin to count."""
        self.refused = 0
        self._rows: list[tuple[Phase, int, int]] = []
        self._times: list[Any] = []

    def seconds(self) -> float:
        """Seconds inside the networks."""
        if self._cuda:
            torch.cuda.synchronize()
            return float(sum(begin.elapsed_time(end) for begin, end in self._times)) / 1000
        return float(sum(self._times))

    def batches(self) -> Figures:
        """Mean rows of a batch by phase, and rows over those that the caps would have let in."""
        by_phase = {
            phase.value: [rows for of, rows, _ in self._rows if of is phase] for phase in Phase
        }
        means = {name: rounded(sum(rows) / len(rows)) for name, rows in by_phase.items() if rows}
        found: dict[str, Any] = {"rows_a_batch": means}
        if self._engine is not None:
            room = sum(cap for _, _, cap in self._rows)
            found["occupancy"] = rounded(sum(rows for _, rows, _ in self._rows) / max(room, 1))
        return found

    def velocity(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[PromptEmbeddings],
        variant: Variant = Variant.BASE,
    ) -> Tensor:
        """Return the model's velocity."""
        return self._counted(
            Phase.DENOISE,
            latents,
            variant,
            lambda: self._model.velocity(latents, sigmas, prompts, variant),
        )

    def decode(self, latents: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        """Return the model's pixels."""
        return self._counted(
            Phase.DECODE, latents, variant, lambda: self._model.decode(latents, variant)
        )

    def encode(self, pixels: Tensor, variant: Variant = Variant.BASE) -> Tensor:
        """Return the model's latents."""
        return self._counted(
            Phase.ENCODE, pixels, variant, lambda: self._model.encode(pixels, variant)
        )

    def encode_prompt(self, prompt: str) -> PromptEmbeddings:
        """Return the model's embeddings."""
        return self._model.encode_prompt(prompt)

    def release_float32(self) -> None:
        """Have the model drop what it made."""
        self._model.release_float32()

    def _counted(
        self, phase: Phase, batch: Tensor, variant: Variant, call: Callable[[], Tensor]
    ) -> Tensor:
        try:
            if self.most_rows is not None and len(batch) > self.most_rows:
                raise torch.OutOfMemoryError(f"no room for {len(batch)} rows")
            begin = self._mark()
            made = call()
        except torch.OutOfMemoryError:
            self.refused += 1
            raise
        end = self._mark()
        self._times.append((begin, end) if self._cuda else end - begin)
        self._rows.append((phase, len(batch), self._cap(phase, batch, variant)))
        return made

    def _cap(self, phase: Phase, batch: Tensor, variant: Variant) -> int:
        if self._engine is None:
            return len(batch)
        factor = self.info.vae_factor if phase is Phase.ENCODE else 1
        height, width = (side // factor for side in batch.shape[-2:])
        # A cap that has just grown, or shrunk, was another when the batch was made.
        cap = self._engine.runner.costs.cap(Kind(phase, height, width, variant))
        return max(cap, len(batch))

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
