"""The command `nullscale restore`: colour, lost pixels and sharpness, besides size."""

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from nullscale.commands.picture_files import FORMAT_OF_SUFFIX
from nullscale.commands.terminal import SOME_FAILED, WRONG_CALL, console, load, stop
from nullscale.commands.verify import percent
from nullscale.errors import InvalidParameter, NullscaleError
from nullscale.imaging.encoding import encode_image
from nullscale.imaging.image_io import decode_image
from nullscale.imaging.noise import noise_of
from nullscale.maths.blur import Blurred
from nullscale.maths.degradations import Chain, Degradation, Grey
from nullscale.maths.inpainting import Masked
from nullscale.maths.params import UpscaleParams, Value
from nullscale.maths.problem import Downscale, check_downscale
from sr_engine.engine import SREngine

MAX_BLUR_PX = 16.0
SPECK = 32
"""A mask no lighter than this is black: JPEG leaves specks, and soft edges are lost too."""


def restore(
    source: Annotated[Path, typer.Argument(help="the picture")],
    output: Annotated[Path, typer.Option("--output", "-o", help="the file to write")],
    scale: Annotated[float, typer.Option(help="1, or 1.1 to 16")] = 1.0,
    downscale: Annotated[
        Downscale, typer.Option(help="how it became small; average: means of squares")
    ] = "bicubic",
    colourise: Annotated[bool, typer.Option(help="it has lost its colours")] = False,
    mask: Annotated[
        Path | None, typer.Option(help="a picture of its size, white where pixels are lost")
    ] = None,
    blur: Annotated[
        float | None, typer.Option(min=0.1, max=MAX_BLUR_PX, help="Gaussian, px of its deviation")
    ] = None,
    blur_across: Annotated[
        float | None,
        typer.Option(min=0.1, max=MAX_BLUR_PX, help="of the width, where it is another"),
    ] = None,
    box_blur: Annotated[
        int | None, typer.Option(min=3, max=31, help="the mean over squares of this odd side, px")
    ] = None,
    sigma_y: Annotated[float | None, typer.Option(help="deviation of its noise, 0 to 1")] = None,
    estimate_noise: Annotated[
        bool, typer.Option("--estimate-noise", help="and see oneself how much there is")
    ] = False,
    num_inference_steps: Annotated[int | None, typer.Option(help="denoising steps")] = None,
    strength: Annotated[float | None, typer.Option(help="noise level to start at, to 1")] = None,
    seed: Annotated[int | None, typer.Option(help="drawn when left out")] = None,
    model: Annotated[str, typer.Option(help="bundled, a folder or a hub id")] = "bundled",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")] = "auto",
    quantize: Annotated[str | None, typer.Option(help="nf4 (on CUDA) or fp8: less memory")] = None,
) -> None:
    """Undo what happened to a picture; what was not lost stays as it is.

    Say what it is: each of the options is a linear map that has been applied to the picture, and
    the answer, put through it again, gives the picture back to within rounding, or to within its
    noise where that is told.
    """
    given: dict[str, Value | None] = {
        "scale": scale,
        "num_inference_steps": num_inference_steps,
        "strength": strength,
        "seed": seed,
        "sigma_y": sigma_y,
    }
    output_format = FORMAT_OF_SUFFIX.get(output.suffix.lower())
    try:
        UpscaleParams().override(given)
        check_downscale(downscale, scale)
        if estimate_noise and sigma_y is not None:
            raise InvalidParameter("estimate_noise", "either this or --sigma-y")
        if output_format is None:
            raise InvalidParameter("output", "must end in .png, .jpg, .jpeg or .webp")
        if output.resolve() in [path.resolve() for path in (source, mask) if path is not None]:
            raise InvalidParameter("output", "would overwrite an input")
        data = source.read_bytes()
        image = decode_image(data, scale=scale, output_format=output_format)
        if image.alpha is not None:
            raise InvalidParameter("source", "transparent pictures are not restored")
        degradation = degradation_of(
            image.samples.shape[:2], colourise, mask, (blur, blur_across), box_blur
        )
        averaged = downscale == "average" and scale != 1
        if not (degradation or sigma_y or estimate_noise or averaged):
            raise InvalidParameter("restore", "nothing to undo; `upscale` enlarges")
    except InvalidParameter as err:
        stop(f"{err.field.replace('_', '-')}: {err.message}", WRONG_CALL)
    except (NullscaleError, OSError) as err:
        stop(str(err), WRONG_CALL)
    engine = SREngine(load(model, device, dtype, quantize))
    started_s = time.monotonic()
    try:
        if estimate_noise:
            given["sigma_y"] = noise_of(data, image.samples)
            console.print(f"{source}: noise of {given['sigma_y']:.3f} of the range")
        params = engine.model.defaults.override(given)
        result = engine.upscale(image.samples, params, downscale=downscale, degradation=degradation)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(encode_image(result.image, output_format))
    except (NullscaleError, OSError) as err:
        stop(f"{source}: {err}", SOME_FAILED)
    height, width, _ = result.image.shape
    share, encoded = percent(result.consistency.exact_share), "before JPEG's losses, "
    print(
        f"{source} → {output}  {width}×{height}  seed {result.seed}  "
        f"{time.monotonic() - started_s:.1f} s  {encoded if output_format == 'jpeg' else ''}gives "
        f"{share} of what is known back to within rounding"
    )


def degradation_of(
    size: tuple[int, int],
    colourise: bool,
    mask: Path | None,
    blur: tuple[float | None, float | None],
    box_blur: int | None,
) -> Degradation | None:
    """Put the options together.

    Raises:
        InvalidParameter: there is what cannot be undone together.
        InvalidImage: the mask is no picture.
    """
    parts: list[Degradation] = []
    along, across = blur
    if across is not None and along is None:
        raise InvalidParameter("blur_across", "comes beside --blur only")
    if [mask is not None, along is not None, box_blur is not None].count(True) > 1:
        raise InvalidParameter("mask", "one of --mask, --blur and --box-blur can be undone at once")
    if along is not None:
        parts.append(Blurred.gaussian(along, across))
    if box_blur is not None:
        if box_blur % 2 == 0:
            raise InvalidParameter("box_blur", "must be odd")
        parts.append(Blurred.uniform(box_blur))
    if colourise:
        parts.append(Grey())
    if mask is not None:
        parts.append(Masked(_known(mask, size)))
    return Chain(tuple(parts)) if parts else None


def _known(mask: Path, size: tuple[int, int]) -> torch.Tensor:
    lost = decode_image(mask.read_bytes()).samples.mean(-1) > SPECK
    if lost.shape != size:
        height, width = size
        raise InvalidParameter("mask", f"must be {width}×{height}, as the picture is")
    if lost.all():
        raise InvalidParameter("mask", "leaves nothing of the picture")
    return torch.from_numpy(~lost)
