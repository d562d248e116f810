"""Which files a command reads, and which it writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nullscale.errors import NullscaleError
from nullscale.imaging.image_io import OutputFormat

FORMAT_OF_SUFFIX: dict[str, OutputFormat] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
}


@dataclass(frozen=True, slots=True)
class Job:
    """One file to read and one to write."""

    source: Path
    target: Path


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


def map_of(job: Job, folder: Path) -> Path:
    """Return the file for the map that goes with a picture."""
    return folder / f"{job.target.stem}.png"


def check_maps(jobs: Sequence[Job], folder: Path) -> None:
    """Do nothing where the maps in ``folder`` are files of their own.

    Raises:
        NullscaleError: one would overwrite a picture.
    """
    pictures = {path.resolve() for job in jobs for path in (job.source, job.target)}
    if any(map_of(job, folder).resolve() in pictures for job in jobs):
        raise NullscaleError("a map would overwrite a picture")
