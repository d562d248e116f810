"""A training run on a budget of wall time."""

import json
import math
import re
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

CHECKPOINT_EVERY_S = 180.0


class Training:
    """A model under training with averaged weights, a schedule over wall time and checkpoints.

    The learning rate follows the share of the time budget already used, so that a run on a busy
    machine ends as well annealed as one on an idle one.

    Weights of two and more dimensions whose names match ``matrices`` are trained by Muon, which
    steps equally in all directions of a matrix, the rest by AdamW. A convolution counts as the
    matrix [out, in · kh · kw]. Adam alone learns the directions in the order of their variance: the
    autoencoder had brightness in minutes and the second axis of colour not within the hour.
    """

    def __init__(
        self, model: nn.Module, path: Path, minutes: float, *, matrices: str, muon_lr: float
    ) -> None:
        self.model = model
        self.averaged = deepcopy(model).eval().requires_grad_(False)
        rest = []
        self.flattened: list[tuple[nn.Parameter, nn.Parameter]] = []
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and re.search(matrices, name):
                self.flattened.append((parameter, nn.Parameter(parameter.data.flatten(1))))
            else:
                rest.append(parameter)
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                [flat for _, flat in self.flattened],
                lr=muon_lr,
                weight_decay=0.0,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.path = path
        self.budget_s = minutes * 60
        self.spent_s = 0.0
        self.step = 0
        self.losses: list[Tensor] = []
        self.base_lr = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        if path.exists():
            state = torch.load(path, weights_only=True, map_location="cpu")
            model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.spent_s, self.step = state["spent_s"], state["step"]

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "spent_s": self.spent_s,
            "step": self.step,
        }
        torch.save(state, self.path.with_suffix(".tmp"))
        self.path.with_suffix(".tmp").replace(self.path)

    def progress(self) -> Iterator[float]:
        """Yield the share of the budget used, until it is; log and save on the way."""
        last, saved_s = time.monotonic(), self.spent_s
        while self.spent_s < self.budget_s:
            yield self.spent_s / self.budget_s
            now = time.monotonic()
            self.spent_s, last = self.spent_s + now - last, now
            if self.step % 50 == 0:
                record = {
                    "step": self.step,
                    "minutes": round(self.spent_s / 60, 2),
                    "loss": round(float(torch.stack(self.losses).mean()), 5),
                }
                with self.path.with_suffix(".jsonl").open("a") as log:
                    log.write(json.dumps(record) + "\n")
                self.losses.clear()
            if self.spent_s - saved_s > CHECKPOINT_EVERY_S:
                self.save()
                saved_s = self.spent_s
        self.save()

    def update(self, loss: Tensor, share: float) -> None:
        """Take one optimiser step at the learning rate due after ``share`` of the budget."""
        warm = min(1.0, (self.step + 1) / 100)
        anneal = 1.0 if share < 0.4 else 0.5 * (1 + math.cos(math.pi * (share - 0.4) / 0.6))
        for optimizer, rates in zip(self.optimizers, self.base_lr, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * warm * max(anneal, 0.01)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for parameter, flat in self.flattened:
            # The flat one shares the weights' memory; the gradient it must be told.
            assert parameter.grad is not None
            flat.grad = parameter.grad.flatten(1)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        # A number only when it is logged: a GPU would be waited for.
        self.losses.append(loss.detach())
        decay = min(0.998, self.step / (self.step + 10))
        with torch.no_grad():
            averaged, now = (list(m.parameters()) for m in (self.averaged, self.model))
            torch._foreach_lerp_(averaged, now, 1 - decay)
