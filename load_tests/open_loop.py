"""Requests at random times that wait for nobody: what a service does at a given load.

    python load_tests/open_loop.py http://127.0.0.1:8000 --trace 5:60 20:30 5:60 \
        --kind name=short,steps=4,share=9 --kind name=long,height_px=1024,width_px=1024,steps=28

A piece of the trace is RATE:SECONDS. Times are counted from the moment at which a request should
have been sent. One JSON line a request goes to the file named; the last line printed is a JSON
object:

    requests            how many; by outcome: a status, with the problem's code, or an exception
    offered_per_s       requests a second
    served_per_s        pictures that came within the trace's time, a second
    latency_s           of pictures, from the intended time to the last byte: percentiles
    refusal_s           the same of 503s
    kinds               requests, pictures and latency of each kind
    sent_late_p99_ms    how much later than intended requests left: the generator's own fault
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
from arrivals import Arrival, Kind, Piece, at_their_times, poisson
from percentiles import percentiles
from pictures import photo

BOUNDARY = "nullscale-open-loop"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a request; times in seconds from the load's start.

    Attributes:
        outcome: the status, with the problem's code where there is one, or the exception's name.
        first_byte_s: when the answer's headers had come.
        server_ms: of `Server-Timing`.
    """

    number: int
    kind: str
    seed: int
    intended_s: float
    sent_s: float
    first_byte_s: float | None
    done_s: float
    outcome: str
    bytes: int = 0
    retry_after_s: float | None = None
    request_id: str | None = None
    server_ms: dict[str, float] | None = None

    @property
    def served(self) -> bool:
        """Whether there was a picture."""
        return self.outcome == "200"

    @property
    def latency_s(self) -> float:
        """From the intended time to the last byte."""
        return self.done_s - self.intended_s


async def drive(url: str, arrivals: Iterable[Arrival], *, timeout_s: float = 300) -> list[Record]:
    """Send each request at its time; return what became of them, in order of arrival."""
    # What has to be made beforehand would make the first ones late.
    arrivals = list(arrivals)
    for kind in {arrival.kind for arrival in arrivals}:
        _picture(kind)
    async with aiohttp.ClientSession(
        url,
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
    ) as http:
        start_s = time.perf_counter()
        return await at_their_times(arrivals, lambda arrival: _send(http, arrival, start_s))


async def _send(http: aiohttp.ClientSession, arrival: Arrival, start_s: float) -> Record:
    def now_s() -> float:
        return time.perf_counter() - start_s

    sent_s, first_byte_s, more = now_s(), None, {}
    try:
        async with http.post("/v1/upscale", data=body(arrival), headers=HEADERS) as response:
            first_byte_s = now_s()
            content = await response.read()
            outcome, more = _outcome(response, content), _headers(response)
    except (aiohttp.ClientError, TimeoutError, OSError) as err:
        outcome, content = type(err).__name__, b""
    return Record(
        number=arrival.number,
        kind=arrival.kind.name,
        seed=arrival.seed,
        intended_s=arrival.at_s,
        sent_s=sent_s,
        first_byte_s=first_byte_s,
        done_s=now_s(),
        outcome=outcome,
        bytes=len(content),
        **more,
    )


def body(arrival: Arrival) -> bytes:
    """The multipart body of a request; its picture is encoded once a kind."""
    kind = arrival.kind
    fields = {
        "seed": arrival.seed,
        "num_inference_steps": kind.steps,
        "scale": kind.scale,
        "output_format": kind.output_format,
    }
    parts = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    head = (
        f'{parts}--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'
        f"Content-Type: image/{kind.image_format}\r\n\r\n"
    )
    return b"".join([head.encode(), _picture(kind), f"\r\n--{BOUNDARY}--\r\n".encode()])


@cache
def _picture(kind: Kind) -> bytes:
    return photo(kind.height_px, kind.width_px, image_format=kind.image_format)


def _outcome(response: aiohttp.ClientResponse, content: bytes) -> str:
    if response.status == 200:
        return "200"
    try:
        return f"{response.status} {json.loads(content)['code']}"
    except (ValueError, KeyError, TypeError):
        return str(response.status)


def _headers(response: aiohttp.ClientResponse) -> dict[str, Any]:
    retry_after, timing = response.headers.get("Retry-After"), response.headers.get("Server-Timing")
    durations = (part.partition(";dur=") for part in (timing or "").split(", ") if part)
    return {
        "retry_after_s": float(retry_after) if retry_after else None,
        "request_id": response.headers.get("X-Request-Id"),
        "server_ms": {name: float(ms) for name, _, ms in durations} if timing else None,
    }


def summary(records: Sequence[Record], seconds: float, *, skip_s: float = 0) -> dict[str, Any]:
    """Return the figures of a load of so many seconds, its first ``skip_s`` left out."""
    counted = [record for record in records if record.intended_s >= skip_s]
    in_time = sum(record.served and skip_s <= record.done_s < seconds for record in records)
    kinds = sorted({record.kind for record in counted})
    return {
        "requests": len(counted),
        "outcomes": dict(Counter(record.outcome for record in counted).most_common()),
        "offered_per_s": round(len(counted) / (seconds - skip_s), 3),
        "served_per_s": round(in_time / (seconds - skip_s), 3),
        "latency_s": percentiles(record.latency_s for record in counted if record.served),
        "refusal_s": percentiles(r.latency_s for r in counted if r.outcome.startswith("503")),
        "kinds": {kind: _of_kind([r for r in counted if r.kind == kind]) for kind in kinds},
        "sent_late_p99_ms": percentiles(1e3 * (r.sent_s - r.intended_s) for r in counted)["p99"],
    }


def _of_kind(records: Sequence[Record]) -> dict[str, Any]:
    served = [record.latency_s for record in records if record.served]
    return {"requests": len(records), "served": len(served), "latency_s": percentiles(served)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--trace", nargs="+", type=Piece.parse, default=[Piece(1, 60)])
    parser.add_argument("--kind", action="append", type=Kind.parse, metavar="NAME=VALUE,…")
    parser.add_argument("--count", type=int, help="requests at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout-s", type=float, default=300)
    parser.add_argument("--skip-s", type=float, default=0, help="left out of the figures")
    parser.add_argument("--records", type=Path, help="file for one JSON line a request")
    args = parser.parse_args()
    arrivals = poisson(args.trace, args.kind or [Kind()], seed=args.seed, count=args.count)
    with args.records.open("w") if args.records else nullcontext() as file:
        records = asyncio.run(drive(args.url, arrivals, timeout_s=args.timeout_s))
        for record in records if file else []:
            file.write(json.dumps(asdict(record)) + "\n")
    seconds = sum(piece.seconds for piece in args.trace)
    if args.count is not None and len(records) == args.count:
        seconds = records[-1].intended_s
    print(json.dumps(summary(records, seconds, skip_s=args.skip_s)))


if __name__ == "__main__":
    main()
