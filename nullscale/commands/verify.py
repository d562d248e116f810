"""The command `nullscale verify`: does a picture give another one back when it is scaled down?"""

import math
from pathlib import Path
from typing import Annotated

import typer

from nullscale.commands.terminal import SOME_FAILED, WRONG_CALL, stop
from nullscale.errors import InvalidImage
from nullscale.imaging.encoding import measure_consistency
from nullscale.imaging.image_io import ImageLimits, SourceImage, decode_image
from nullscale.maths.consistency import Consistency

_RESULTS = ImageLimits(max_input_pixels=ImageLimits().max_output_pixels)
"""As large as an upscale may be."""


def verify(
    small: Annotated[Path, typer.Argument(help="the input")],
    large: Annotated[Path, typer.Argument(help="what was made of it")],
) -> None:
    """Scale LARGE down with Pillow's bicubic filter and compare it with SMALL, sample by sample.

    Exit codes: 0 it gives every sample back, 1 it does not, 2 a file cannot be compared.
    """
    source, result = _read(small), _read(large, _RESULTS)
    (height, width), (result_height, result_width) = (
        picture.samples.shape[:2] for picture in (source, result)
    )
    if result_height < height or result_width < width:
        sizes = f"{result_width}×{result_height}, {width}×{height}"
        stop(f"{large} is smaller than {small}: {sizes}", WRONG_CALL)
    if source.alpha is None and result.alpha is not None:
        stop(f"{large} is transparent and {small} is not", WRONG_CALL)
    found = measure_consistency(large.read_bytes(), source, reachable=True)
    print(f"{large} {describe(found)}")
    if not found.exact:
        raise typer.Exit(SOME_FAILED)


def describe(consistency: Consistency) -> str:
    """Put the round trip in words."""
    if consistency.exact:
        return "gives its input back exactly"
    share = percent(consistency.exact_share)
    words = f"gives {share} of its input back ({consistency.psnr_db:.1f} dB)"
    return words if consistency.reachable else f"{words}: no picture in range does it exactly"


def percent(share: float) -> str:
    """Put a share in words, rounded down: 100 % is all of it."""
    return f"{math.floor(1e4 * share) / 1e4:.2%}"


def _read(path: Path, limits: ImageLimits | None = None) -> SourceImage:
    try:
        return decode_image(path.read_bytes(), limits=limits)
    except (InvalidImage, OSError) as err:
        stop(f"{path}: {err}", WRONG_CALL)
