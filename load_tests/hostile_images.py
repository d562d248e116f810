"""Hostile images through the HTTP interface: every answer, every pixel, every neighbour, memory.

    python load_tests/hostile_images.py [--count N] [--seed S]
    python load_tests/hostile_images.py --url http://127.0.0.1:8000 --count 300

Without ``--url`` the application runs in this process with a replica that enlarges nothing and
answers at once, so that what comes back can be held against the file. Each batch holds one good
picture. The last line printed is a JSON object; the exit code is 1 where anything is wrong,
and where the process has held more than 2 GiB.
"""

import argparse
import asyncio
import io
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import numpy as np
from hostile_corpus import Case, corpus, sample
from hostile_files import MARK
from hostile_oracle import Verdict, judge
from PIL import Image

ROOT = Path(__file__).parents[1]
BATCH = 8
MOST_RSS_MB = 2048
LIVE_MAX_PIXELS = 10_000  # a live model takes its time for more
PROBLEM_KEYS = {"type", "title", "status", "detail", "code", "errors", "retryable", "request_id"}


@dataclass
class Tally:
    """What was sent and what came of it.

    Attributes:
        server_errors: answers of 500 and more.
        wrong: answers with another status, code or picture than the oracle's.
        neighbours_lost: good pictures that were not answered with their own samples.
        rss_before_mb: what the process held before the first file.
        peak_rss_mb: the most that the process held, oracle aside; None for a live service.
    """

    files: int = 0
    ok: int = 0
    refused: int = 0
    by_status: dict[int, int] = field(default_factory=dict)
    server_errors: int = 0
    wrong: int = 0
    neighbours_lost: int = 0
    rss_before_mb: float | None = None
    peak_rss_mb: float | None = None
    complaints: list[str] = field(default_factory=list)


def in_process() -> httpx.AsyncClient:
    """The application and a replica that gives back what it is given."""
    sys.path.append(str(ROOT / "tests"))
    from fake_service import client
    from fake_upscaler import FakeUpscaler

    from deployments.limits import Limits

    return client(FakeUpscaler(echo=True), limits=Limits())


async def attack(
    http: httpx.AsyncClient,
    cases: list[Case],
    max_pixels: int,
    *,
    live: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Tally:
    """Send every case, a good picture between each few, and compare."""
    reset_peak()
    before = None if live else peak_mb()
    tally = Tally(rss_before_mb=before, peak_rss_mb=before)
    good, good_verdict = neighbour(max_pixels)
    for start in range(0, len(cases), BATCH):
        batch = cases[start : start + BATCH]
        verdicts = [judge(case.data, max_pixels) for case in batch]
        reset_peak()
        answers = await asyncio.gather(
            *(send(http, case.data, seed) for seed, case in enumerate(batch)), send(http, good, 0)
        )
        if not live:
            tally.peak_rss_mb = max(tally.peak_rss_mb or 0.0, peak_mb())
        for case, verdict, answer in zip(batch, verdicts, answers, strict=False):
            count(tally, case, answer, complaint(answer, verdict))
        if lost := complaint(answers[-1], good_verdict):
            tally.neighbours_lost += 1
            tally.complaints.append(f"neighbour of {batch[0].name}: {lost}")
        report(f"{tally.files} of {len(cases)}: {tally.wrong} wrong")
    return tally


def neighbour(max_pixels: int) -> tuple[bytes, Verdict]:
    """A good picture and its verdict."""
    rows, columns = np.mgrid[:48, :64]
    samples = np.stack([4 * columns, 5 * rows, 2 * (rows + columns)], axis=-1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "PNG")
    return buffer.getvalue(), judge(buffer.getvalue(), max_pixels)


async def send(http: httpx.AsyncClient, data: bytes, seed: int) -> httpx.Response:
    """One request, at a size that changes nothing."""
    return await http.post(
        "/v1/upscale",
        files={"image": ("image.png", data, "image/png")},
        data={"scale": "1", "num_inference_steps": "1", "seed": str(seed)},
    )


def count(tally: Tally, case: Case, answer: httpx.Response, found: str) -> None:
    """Enter one answer."""
    tally.files += 1
    seen = tally.by_status
    seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
    tally.ok += answer.status_code == 200
    tally.refused += 400 <= answer.status_code < 500
    tally.server_errors += answer.status_code >= 500
    if found:
        tally.wrong += 1
        tally.complaints.append(f"{case.name}: {found}")


def complaint(answer: httpx.Response, verdict: Verdict) -> str:
    """Say in words what is wrong with an answer; nothing where it is right."""
    if MARK in answer.content:
        return "the answer holds a part of the file"
    if answer.status_code != verdict.status:
        return f"{answer.status_code} in place of {verdict.status} {answer.text[:200]!r}"
    if answer.status_code != 200:
        if answer.headers["content-type"] != "application/problem+json":
            return f"the problem is {answer.headers['content-type']}"
        body = answer.json()
        if set(body) < PROBLEM_KEYS or body["status"] != answer.status_code:
            return f"the problem is not well-formed: {body}"
        return "" if body["code"] == verdict.code else f"{body['code']} is not {verdict.code}"
    if answer.headers.get("x-content-type-options") != "nosniff":
        return "the answer may be sniffed"
    with Image.open(io.BytesIO(answer.content), formats=("PNG",)) as picture:
        samples = np.asarray(picture.convert("RGBA").convert("RGBa")).astype(np.int16)
    for expected in verdict.pictures:
        same = samples.shape == expected.shape
        if same and int(np.abs(samples - expected).max()) <= verdict.tolerance:
            return ""
    shapes = [expected.shape for expected in verdict.pictures]
    return f"another picture: {samples.shape} for {shapes}"


def reset_peak() -> None:
    """Let the kernel forget the most that this process held."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """The most that this process held since then."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise LookupError("VmHWM")


async def run(url: str | None, total: int | None, seed: int) -> Tally:
    """Attack the live service, or the application in this process."""
    cases = corpus(seed)
    client = httpx.AsyncClient(base_url=url, timeout=120) if url else in_process()
    async with client as http:
        limits = (await http.get("/v1/models")).json()["models"][0]["limits"]
        max_pixels = min(limits["max_input_pixels"], limits["max_output_pixels"])
        if url:
            cases = [case for case in cases if not costly(judge(case.data, max_pixels))]
        if total is not None:
            cases = sample(cases, total)
        return await attack(http, cases, max_pixels, live=bool(url), report=to_terminal)


def costly(verdict: Verdict) -> bool:
    """Say whether the picture is large."""
    return any(p.shape[0] * p.shape[1] > LIVE_MAX_PIXELS for p in verdict.pictures)


def to_terminal(line: str) -> None:
    """Show the progress in place."""
    if sys.stderr.isatty():
        print(f"\r{line}", end="", file=sys.stderr)


def misses(tally: Tally) -> list[str]:
    """Say in words which promise the answers do not hold."""
    bounds = {
        f"{tally.server_errors} server errors": tally.server_errors > 0,
        f"{tally.wrong} wrong answers": tally.wrong > 0,
        f"{tally.neighbours_lost} neighbours lost": tally.neighbours_lost > 0,
        f"more than {MOST_RSS_MB} MB": (tally.peak_rss_mb or 0.0) > MOST_RSS_MB,
    }
    return [words for words, missed in bounds.items() if missed]


def main() -> None:
    """Run, print the complaints and the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a live service; the application in this process without")
    parser.add_argument("--count", type=int, help="so many files, the same number of each family")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Pillow warns of much of this, once for each place in its code.
    warnings.simplefilter("ignore")
    tally = asyncio.run(run(options.url, options.count, options.seed))
    figures = asdict(tally)
    for line in figures.pop("complaints"):
        print(line)
    print(json.dumps(figures))
    sys.exit("; ".join(misses(tally)) or 0)


if __name__ == "__main__":
    main()
