"""What a caller has set is put aside and comes back, with several threads too."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import torch

from nullscale.maths.exact_products import exact_products

CPU = torch.device("cpu")


def precision() -> str:
    found: str = torch.backends.mkldnn.matmul.fp32_precision
    return found


@pytest.fixture(autouse=True)
def medium() -> Iterator[None]:
    """Have products made in bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    assert precision() == "bf16"
    yield
    torch.set_float32_matmul_precision(before)


def test_the_last_to_leave_restores_it() -> None:
    first, second = ExitStack(), ExitStack()
    first.enter_context(exact_products(CPU))
    second.enter_context(exact_products(CPU))
    first.close()
    assert precision() == "ieee"
    second.close()
    assert precision() == "bf16"


def test_an_error_restores_it() -> None:
    with pytest.raises(KeyError), exact_products(CPU):
        raise KeyError
    assert precision() == "bf16"


def test_autocast_is_off_inside_of_either() -> None:
    x = torch.ones(2, 2)
    with exact_products(CPU), torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with exact_products(CPU):
            assert (x @ x).dtype == torch.float32
