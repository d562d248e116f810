"""The command `nullscale upscale`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from jaxtyping import UInt8
from PIL import Image
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nullscale.commands.picture_files import FORMAT_OF_SUFFIX, Job, check_maps, map_of, plan_jobs
from nullscale.commands.terminal import SOME_FAILED, WRONG_CALL, complain, console, load, stop
from nullscale.commands.verify import describe
from nullscale.errors import InvalidParameter, NullscaleError
from nullscale.imaging.alpha import add_alpha
from nullscale.imaging.encoding import encode_image, measure_consistency
from nullscale.imaging.image_io import decode_image
from nullscale.imaging.noise import noise_of
from nullscale.maths.params import Ending, Projection, UpscaleParams, Value
from nullscale.maths.presets import Preset, preset_params
from nullscale.maths.sampling import SigmaSpacing
from nullscale.samples import MAX_SAMPLES, draw_samples
from sr_engine.engine import SREngine


@dataclass(frozen=True, slots=True)
class Choices:
    """What is asked for besides the sampler's parameters.

    Attributes:
        preset: what those are put over.
        estimate_noise: let each picture say how noisy it is.
        samples: seeds whose mean a picture is.
        spread: folder for maps of their spread.
    """

    preset: Preset | None = None
    estimate_noise: bool = False
    samples: int = 1
    spread: Path | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A picture before its alpha, and what is said of it."""

    image: UInt8[np.ndarray, "H W 3"]
    reachable: bool
    words: str


def upscale(
    inputs: Annotated[list[Path], typer.Argument(help="pictures, or folders of them")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="a file for one picture, else a folder")
    ],
    model: Annotated[str, typer.Option(help="bundled, a folder or a hub id")] = "bundled",
    scale: Annotated[float | None, typer.Option(help="1, or 1.1 to 16")] = None,
    num_inference_steps: Annotated[int | None, typer.Option(help="denoising steps")] = None,
    guidance_strength: Annotated[
        float | None, typer.Option(help="λ, share of the generated detail")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="drawn when left out")] = None,
    prompt: Annotated[str | None, typer.Option(help="what the picture shows")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="what it should not show")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="classifier-free guidance; 1 is off")
    ] = None,
    preset: Annotated[
        Preset | None, typer.Option(help="parameters to start from; balanced is the model's own")
    ] = None,
    projection: Annotated[Projection | None, typer.Option(help="DDNM projection")] = None,
    eta: Annotated[float | None, typer.Option(help="share of fresh noise a step, 0 to 1")] = None,
    rederive: Annotated[
        bool | None, typer.Option(help="noise from the corrected estimate, as the seed does")
    ] = None,
    strength: Annotated[float | None, typer.Option(help="noise level to start at, to 1")] = None,
    sigma_spacing: Annotated[SigmaSpacing | None, typer.Option(help="of the noise levels")] = None,
    ending: Annotated[
        Ending | None, typer.Option(help="of the last step; latents give no guarantee")
    ] = None,
    travel_length: Annotated[
        int | None, typer.Option(help="steps after which the sampler goes back over them")
    ] = None,
    travel_repeats: Annotated[
        int | None, typer.Option(help="times that it takes them in all")
    ] = None,
    sigma_y: Annotated[
        float | None, typer.Option(help="deviation of the input's noise, 0 to 1")
    ] = None,
    estimate_noise: Annotated[
        bool, typer.Option("--estimate-noise", help="and see oneself how much there is")
    ] = False,
    samples: Annotated[
        int, typer.Option(min=1, max=MAX_SAMPLES, help="seeds whose mean picture is written")
    ] = 1,
    spread: Annotated[
        Path | None,
        typer.Option(help="folder for maps of where they differ: grey, the brightest the most"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")] = "auto",
    quantize: Annotated[str | None, typer.Option(help="nf4 (on CUDA) or fp8: less memory")] = None,
) -> None:
    """Upscale pictures; parameters left out take the model's own defaults."""
    given: dict[str, Value | None] = {
        "scale": scale,
        "num_inference_steps": num_inference_steps,
        "guidance_strength": guidance_strength,
        "seed": seed,
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "guidance_scale": guidance_scale,
        "projection": projection,
        "eta": eta,
        "rederive": rederive,
        "strength": strength,
        "sigma_spacing": sigma_spacing,
        "ending": ending,
        "travel_length": travel_length,
        "travel_repeats": travel_repeats,
        "sigma_y": sigma_y,
    }
    choices = Choices(preset, estimate_noise, samples, spread)
    run_upscale(
        inputs,
        output,
        given,
        model=model,
        device=device,
        dtype=dtype,
        quantize=quantize,
        choices=choices,
    )


def run_upscale(
    inputs: list[Path],
    output: Path,
    given: dict[str, Value | None],
    *,
    model: str = "bundled",
    device: str = "auto",
    dtype: str = "auto",
    quantize: str | None = None,
    choices: Choices = Choices(),
) -> None:
    """Upscale every picture and end the process with the exit code that says how it went.

    Raises:
        typer.Exit: always but when all went well.
    """
    try:
        preset_params(UpscaleParams(), choices.preset).override(given)
        jobs = plan_jobs(inputs, output)
        if choices.estimate_noise and given.get("sigma_y") is not None:
            raise InvalidParameter("estimate_noise", "either this or --sigma-y")
        if choices.spread and choices.samples == 1:
            raise InvalidParameter("spread", "a single sample has none; --samples says how many")
        if choices.spread:
            check_maps(jobs, choices.spread)
    except InvalidParameter as err:
        stop(f"--{err.field.replace('_', '-')}: {err.message}", WRONG_CALL)
    except NullscaleError as err:
        stop(str(err), WRONG_CALL)

    # Loading takes seconds: only now that the call is known to make sense.
    engine = SREngine(load(model, device, dtype, quantize))
    try:
        params = preset_params(engine.model.defaults, choices.preset).override(given)
    except InvalidParameter as err:
        stop(f"--{err.field.replace('_', '-')}: {err.message}", WRONG_CALL)
    failed = 0
    for job in jobs:
        try:
            print(_upscale_file(engine, job, params, choices))
        except (NullscaleError, OSError) as err:
            failed += 1
            complain(f"{job.source}: {err}")
    if failed:
        stop(f"{failed} of {len(jobs)} pictures failed", SOME_FAILED)


def _upscale_file(engine: SREngine, job: Job, params: UpscaleParams, choices: Choices) -> str:
    """Upscale one file; return the line that sums it up."""
    output_format = FORMAT_OF_SUFFIX[job.target.suffix.lower()]
    data = job.source.read_bytes()
    source = decode_image(data, scale=params.scale, output_format=output_format)
    if choices.estimate_noise:
        params = params.override({"sigma_y": noise_of(data, source.samples)})
        console.print(f"{job.source}: noise of {params.sigma_y:.3f} of the range")
    started = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        total = params.denoising_steps * choices.samples
        bar = progress.add_task(job.source.name, total=total)
        made = _make(engine, job, source.samples, params, choices, lambda: progress.advance(bar))
    layers = add_alpha(made.image, source, params.scale, pin=params.consistent)
    encoded = encode_image(layers.image, output_format, alpha=layers.alpha)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    job.target.write_bytes(encoded)
    found = measure_consistency(encoded, source, reachable=made.reachable and layers.reachable)
    height, width, _ = made.image.shape
    return (
        f"{job.source} → {job.target}  {width}×{height}  {made.words}  "
        f"{time.monotonic() - started:.1f} s  {describe(found)}"
    )


def _make(
    engine: SREngine,
    job: Job,
    image: UInt8[np.ndarray, "h w 3"],
    params: UpscaleParams,
    choices: Choices,
    on_step: Callable[[], None],
) -> Made:
    """Make one picture, or the mean of several and the map of their spread."""
    if choices.samples == 1:
        result = engine.upscale(image, params, on_step=lambda event: on_step())
        return Made(result.image, result.consistency.reachable, f"seed {result.seed}")
    found = draw_samples(engine, image, params, choices.samples, on_step=lambda event: on_step())
    if choices.spread:
        choices.spread.mkdir(parents=True, exist_ok=True)
        levels = (255 / max(found.spread.max(), 1e-9) * found.spread).round().astype(np.uint8)
        Image.fromarray(levels).save(map_of(job, choices.spread))
    words = (
        f"seeds {found.seeds[0]} to {found.seeds[-1]}, which spread by {found.spread.mean():.1f} "
    )
    return Made(found.image, found.consistency.reachable, f"{words}levels")
