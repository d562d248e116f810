"""When calls are recorded and what a replay returns; that CUDA's do so, test_cuda.py shows."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from sr_engine.replay import Call, Replayed


class Tape:
    """Records into one tensor, as a graph does."""

    def __init__(self) -> None:
        self.recorded: list[torch.Size] = []

    def __call__(self, call: Call, given: tuple[Tensor, ...]) -> tuple[Callable[[], None], Tensor]:
        self.recorded.append(given[0].shape)
        result = torch.full_like(call(*given), torch.nan)

        def replay() -> None:
            result.copy_(call(*given))

        return replay, result


def difference(x: Tensor, y: Tensor) -> Tensor:
    return x - 2 * y


def pair(side: int) -> tuple[Tensor, Tensor]:
    return torch.randn(side, side), torch.randn(side)


def test_a_shape_is_recorded_when_it_comes_again() -> None:
    tape = Tape()
    replayed = Replayed(difference, record=tape)
    answers = []
    for side in (3, 4, 3, 3, 4):
        given = pair(side)
        answers.append((replayed(*given), difference(*given)))
    assert tape.recorded == [(3, 3), (4, 4)]
    # An earlier answer is not overwritten by a later replay.
    assert all(torch.equal(found, want) for found, want in answers)


def test_what_was_not_used_for_long_is_forgotten() -> None:
    tape = Tape()
    replayed = Replayed(difference, most=2, record=tape)
    for side in (3, 3, 4, 3, 5, 4, 3):
        replayed(*pair(side))
    # At 5, 4 is forgotten; when it comes again, 3 is.
    assert tape.recorded == [(3, 3)]
    replayed(*pair(3))
    assert tape.recorded == [(3, 3)] * 2


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0), requires_grad=False)
        self.replayed = Replayed(self.times, record=Tape())

    def times(self, x: Tensor) -> Tensor:
        return self.factor * x


def test_a_copy_has_its_own_weights() -> None:
    first, x = Scaled(), torch.ones(3)
    for _ in range(3):
        first.replayed(x)
    second = deepcopy(first)
    second.factor.fill_(5)
    assert torch.equal(second.replayed(x), 5 * x)
    assert torch.equal(first.replayed(x), 2 * x)
