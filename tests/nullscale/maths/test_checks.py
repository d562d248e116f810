"""What is refused as an answer, whatever made it."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from nullscale.errors import InvalidResult
from nullscale.maths.checks import check_picture
from nullscale.maths.operators import BicubicDownscale
from nullscale.maths.params import Projection, UpscaleParams

PROJECTED = sorted({*get_args(Projection)} - {"none"})
OPERATOR = BicubicDownscale((6, 8), 2)


@pytest.fixture
def y() -> Tensor:
    """A picture with detail."""
    values = torch.randint(0, 256, (3, 6, 8), generator=torch.Generator().manual_seed(0))
    return values / 255


def black() -> Tensor:
    return torch.zeros(3, 12, 16)


def test_a_black_picture_of_something_is_empty(y: Tensor) -> None:
    with pytest.raises(InvalidResult, match="an empty picture"):
        check_picture(black(), y, OPERATOR, UpscaleParams(projection="none"))


@pytest.mark.parametrize("projection", PROJECTED)
def test_a_black_picture_does_not_give_the_input_back(y: Tensor, projection: Projection) -> None:
    with pytest.raises(InvalidResult, match="does not give the input back"):
        check_picture(black(), y, OPERATOR, UpscaleParams(projection=projection))


@pytest.mark.parametrize("projection", get_args(Projection))
@pytest.mark.parametrize("sample", [torch.nan, torch.inf, -torch.inf])
def test_one_sample_that_is_no_number_is_enough(
    y: Tensor, projection: Projection, sample: float
) -> None:
    picture = OPERATOR.pinv(y)
    picture[1, 5, 7] = sample
    with pytest.raises(InvalidResult, match="non-finite"):
        check_picture(picture, y, OPERATOR, UpscaleParams(projection=projection))


@pytest.mark.parametrize("projection", get_args(Projection))
def test_pictures_that_may_be_meant_pass(y: Tensor, projection: Projection) -> None:
    params = UpscaleParams(projection=projection)
    check_picture(OPERATOR.pinv(y), y, OPERATOR, params)
    # A black picture of black.
    check_picture(black(), torch.zeros_like(y), OPERATOR, params)
