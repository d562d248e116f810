"""The command `nullscale upscale`."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from jaxtyping import UInt8
from PIL import Image
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sr_engine.alpha import add_alpha
from sr_engine.encoding import encode_image, measure_consistency
from sr_engine.engine import SREngine
from sr_engine.errors import InvalidParameter, NullscaleError
from sr_engine.image_io import OutputFormat, decode_image
from sr_engine.request import UpscaleParams, Value
from sr_engine.samples import MAX_SAMPLES, draw_samples
from sr_engine.terminal import SOME_FAILED, WRONG_CALL, complain, console, load, stop
from sr_engine.verify_cli import describe

FORMAT_OF_SUFFIX: dict[str, OutputFormat] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
}


class ProjectionName(StrEnum):
    """The choices of ``--projection``."""

    none = "none"
    latent = "latent"
    pixel = "pixel"
    residual = "residual"


@dataclass(frozen=True, slots=True)
class Job:
    """One file to read and one to write."""

    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Ensemble:
    """How many seeds a picture is the mean of, and the folder for maps of their spread."""

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
    projection: Annotated[ProjectionName | None, typer.Option(help="DDNM projection")] = None,
    eta: Annotated[float | None, typer.Option(help="share of fresh noise a step, 0 to 1")] = None,
    rederive: Annotated[
        bool | None, typer.Option(help="noise from the corrected estimate, as the seed does")
    ] = None,
    strength: Annotated[float | None, typer.Option(help="noise level to start at, to 1")] = None,
    samples: Annotated[
        int, typer.Option(min=1, max=MAX_SAMPLES, help="seeds whose mean picture is written")
    ] = 1,
    spread: Annotated[
        Path | None,
        typer.Option(help="folder for maps of where they differ: grey, the brightest the most"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")] = "auto",
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
        "projection": projection.value if projection else None,
        "eta": eta,
        "rederive": rederive,
        "strength": strength,
    }
    ensemble = Ensemble(samples, spread)
    run_upscale(inputs, output, given, model=model, device=device, dtype=dtype, ensemble=ensemble)


def run_upscale(
    inputs: list[Path],
    output: Path,
    given: dict[str, Value | None],
    *,
    model: str = "bundled",
    device: str = "auto",
    dtype: str = "auto",
    ensemble: Ensemble = Ensemble(),
) -> None:
    """Upscale every picture and end the process with the exit code that says how it went.

    Raises:
        typer.Exit: always but when all went well.
    """
    try:
        UpscaleParams().override(given)
        jobs = plan_jobs(inputs, output)
        if ensemble.spread and ensemble.samples == 1:
            raise InvalidParameter("spread", "a single sample has none; --samples says how many")
    except InvalidParameter as err:
        stop(f"--{err.field.replace('_', '-')}: {err.message}", WRONG_CALL)
    except NullscaleError as err:
        stop(str(err), WRONG_CALL)

    # Loading takes seconds: only now that the call is known to make sense.
    engine = SREngine(load(model, device, dtype))
    params = engine.model.defaults.override(given)
    failed = 0
    for job in jobs:
        try:
            print(_upscale_file(engine, job, params, ensemble))
        except (NullscaleError, OSError) as err:
            failed += 1
            complain(f"{job.source}: {err}")
    if failed:
        stop(f"{failed} of {len(jobs)} pictures failed", SOME_FAILED)


def plan_jobs(inputs: list[Path], output: Path) -> list[Job]:
    """Say which file each picture goes to.

    Raises:
        NullscaleError: no pictures, several for one file, or one over itself.
    """
    sources: list[Path] = []
    for path in inputs:
        if path.is_dir():
            sources += sorted(p for p in path.iterdir() if p.suffix.lower() in FORMAT_OF_SUFFIX)
        else:
            sources.append(path)
    if not sources:
        raise NullscaleError("there are no pictures in the inputs")
    if output.suffix.lower() in FORMAT_OF_SUFFIX:
        if len(sources) > 1:
            raise NullscaleError(f"{len(sources)} pictures cannot all become {output}")
        jobs = [Job(sources[0], output)]
    else:
        jobs = [Job(source, output / f"{source.stem}.png") for source in sources]
    if any(job.source.resolve() == job.target.resolve() for job in jobs):
        raise NullscaleError("the output would overwrite its input")
    if len({job.target for job in jobs}) < len(jobs):
        raise NullscaleError("two of the pictures have the same name")
    return jobs


def _upscale_file(engine: SREngine, job: Job, params: UpscaleParams, ensemble: Ensemble) -> str:
    """Upscale one file; return the line that sums it up."""
    output_format = FORMAT_OF_SUFFIX[job.target.suffix.lower()]
    source = decode_image(job.source.read_bytes(), scale=params.scale, output_format=output_format)
    started = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        total = params.num_inference_steps * ensemble.samples
        bar = progress.add_task(job.source.name, total=total)
        made = _make(engine, job, source.samples, params, ensemble, lambda: progress.advance(bar))
    layers = add_alpha(made.image, source, params.scale)
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
    ensemble: Ensemble,
    on_step: Callable[[], None],
) -> Made:
    """Make one picture, or the mean of several and the map of their spread."""
    if ensemble.samples == 1:
        result = engine.upscale(image, params, on_step=lambda event: on_step())
        return Made(result.image, result.consistency.reachable, f"seed {result.seed}")
    found = draw_samples(engine, image, params, ensemble.samples, on_step=lambda event: on_step())
    if ensemble.spread:
        ensemble.spread.mkdir(parents=True, exist_ok=True)
        levels = (255 / max(found.spread.max(), 1e-9) * found.spread).round().astype(np.uint8)
        Image.fromarray(levels).save(ensemble.spread / f"{job.target.stem}.png")
    words = (
        f"seeds {found.seeds[0]} to {found.seeds[-1]}, which spread by {found.spread.mean():.1f} "
    )
    return Made(found.image, found.consistency.reachable, f"{words}levels")
