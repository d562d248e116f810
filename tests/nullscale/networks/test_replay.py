"""When calls are recorded and what a replay returns; that CUDA's do so, test_cuda.py shows."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from tape import Tape
from torch import Tensor, nn

from nullscale.networks.replay import Call, Replayed


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


class Full:
    """Finds no memory to record in."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, call: Call, given: tuple[Tensor, ...]) -> tuple[Callable[[], None], Tensor]:
        self.asked += 1
        raise torch.OutOfMemoryError("none left")


def test_without_room_for_a_recording_the_call_is_made_all_the_same() -> None:
    full = Full()
    replayed = Replayed(difference, record=full)
    for _ in range(4):
        given = pair(3)
        assert torch.equal(replayed(*given), difference(*given))
    assert full.asked == 1


def test_a_call_without_room_is_the_callers_to_split() -> None:
    def refuse(x: Tensor) -> Tensor:
        if full:
            raise torch.OutOfMemoryError("none left")
        return 2 * x

    full, x = False, torch.ones(3)
    replayed = Replayed(refuse, record=Tape())
    replayed(x)
    full = True
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            replayed(x)
    full = False
    for _ in range(3):
        assert torch.equal(replayed(x), 2 * x)


def test_what_is_recorded_in_inference_mode_serves_outside() -> None:
    replayed = Replayed(difference, record=Tape())
    with torch.inference_mode():
        for _ in range(2):
            replayed(*pair(3))
    given = pair(3)
    assert torch.equal(replayed(*given), difference(*given))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("caller", [torch.inference_mode, torch.no_grad])
def test_what_was_compiled_is_what_is_recorded(caller: Callable[[], Any]) -> None:
    ran = []

    def backend(graph: Callable[..., Any], _: object) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            ran.append(graph)
            return graph(*given)

        return run

    compiled = torch.compile(difference, backend=backend, fullgraph=True, dynamic=True)
    with torch.inference_mode():
        compiled(*pair(3))
    # What no graph fits runs eagerly, and slower.
    torch.compiler.set_stance("eager_on_recompile")
    ran.clear()
    tape = Tape()
    replayed = Replayed(compiled, record=tape)
    with caller():
        replayed(*pair(4))
        ran.clear()
        given = pair(4)
        assert torch.equal(replayed(*given), difference(*given))
    assert tape.recorded and ran
