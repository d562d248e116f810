"""A node dies under a steady load: what becomes of the requests, and for how long they wait.

    python load_tests/node_loss.py

Three nodes on this machine, each with a proxy, an Ingress replica and an Upscaler on a simulated
GPU. Requests arrive at random, each on a connection to a known proxy. Then all processes of a node
are killed at once, and later another node joins. A request whose connection breaks is sent once
more, on a new one, as a client or a load balancer would. Its last line is one JSON object; the exit
status is 1 where a request was lost.

survivors           requests through a proxy that lives, those of them that were lost, and how long
                    the slowest took
dead_proxy          requests whose connection broke, and those that one retry did not recover
stall_s             longest time without any picture, the node being dead
whole_again_s       from the new node's coming to three replicas
drained             requests while a node was drained in favour of one more, and those lost
"""

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
from cluster import wait_until_healthy
from nodes import Nodes, service_on_nodes
from pictures import photo
from placed_app import NODE_HEADER

ARGS: dict[str, Any] = {
    "model": "simulated:sd3.5-medium-h100",
    "max_active": 2,
    "threads": 1,
    "upscale_timeout_s": 60,
}
BURST = 15
# By default a node is dead after five failures, 3 s apart.
QUICK = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
STEPS = 100  # some 0.4 s of a simulated GPU


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request; `outcome` is a status or an exception's name."""

    node_id: str
    begun_s: float
    ended_s: float
    outcome: str
    again: str | None


class Lines:
    """Connections that are kept, one a client, whose proxy is known."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._free: list[tuple[str, httpx.AsyncClient]] = []
        self._all: list[httpx.AsyncClient] = []

    async def take(self) -> tuple[str, httpx.AsyncClient]:
        """Return a free connection, of any proxy, or a new one."""
        if self._free:
            return self._free.pop(random.randrange(len(self._free)))
        limits = httpx.Limits(max_connections=1, keepalive_expiry=None)
        http = httpx.AsyncClient(base_url=self._url, timeout=self._timeout_s, limits=limits)
        self._all.append(http)
        for _ in range(20):
            try:
                return (await http.get("/-/routes")).headers[NODE_HEADER], http
            except httpx.TransportError:
                # Its proxy died in this moment; nothing was asked of it yet.
                await asyncio.sleep(0.1)
        raise RuntimeError("no proxy answers")

    def give_back(self, node_id: str, http: httpx.AsyncClient) -> None:
        """Let another request have a connection that has served."""
        self._free.append((node_id, http))

    async def close(self) -> None:
        """Close them all."""
        await asyncio.gather(*(http.aclose() for http in self._all))


async def under_load(
    lines: Lines, *, seconds: float, rate: float, strike: Callable[[], Awaitable[object]]
) -> list[Answer]:
    """Send requests at random times and wait for all; `strike` comes after a third of the time."""
    rng, sent = random.Random(0), []
    end_s = time.monotonic() + seconds
    fault = asyncio.create_task(_later(seconds / 3, strike))
    while time.monotonic() < end_s:
        sent.append(asyncio.create_task(_answer(lines)))
        await asyncio.sleep(rng.expovariate(rate))
    await fault
    return list(await asyncio.gather(*sent))


async def measure(nodes: Nodes, seconds: float, rate: float) -> dict[str, Any]:
    """Kill a node that has neither the head's processes nor the jobs, and count."""
    victim = one_of(nodes)
    killed_s, burst = 0.0, list[Answer]()

    async def strike() -> None:
        nonlocal killed_s
        # So that there is something under way everywhere.
        sent = [asyncio.create_task(_answer(lines)) for _ in range(BURST)]
        await asyncio.sleep(0.3)
        killed_s = time.monotonic()
        await asyncio.to_thread(nodes.kill, victim)
        burst.extend(await asyncio.gather(*sent))

    lines = Lines(nodes.url, timeout_s=ARGS["upscale_timeout_s"] + 10)
    try:
        # Some for each proxy, before it counts.
        first = [await lines.take() for _ in range(BURST)]
        for line in first:
            lines.give_back(*line)
        answers = await under_load(lines, seconds=seconds, rate=rate, strike=strike)
    finally:
        await lines.close()
    return figures([*answers, *burst], victim, killed_s)


async def drained(nodes: Nodes, rate: float) -> dict[str, Any]:
    """Drain a node under load, another being free, and count until it has no replica."""
    victim, lines, sent = one_of(nodes), Lines(nodes.url, timeout_s=70), []
    begun_s = time.monotonic()
    await asyncio.to_thread(nodes.drain, victim, 120)
    try:
        while time.monotonic() < begun_s + 120 and nodes.holds_any(victim):
            sent.append(asyncio.create_task(_answer(lines)))
            await asyncio.sleep(1 / rate)
        answers = await asyncio.gather(*sent)
    finally:
        await lines.close()
    lost = [a for a in answers if "200" not in (a.outcome, a.again)]
    return {
        "requests": len(answers),
        "lost": len(lost),
        "took_s": round(time.monotonic() - begun_s, 1),
        "left": nodes.holds_any(victim),
    }


def one_of(nodes: Nodes) -> str:
    """Return the id of a node with an Upscaler that is neither the head nor that of the jobs."""
    (jobs_node,) = nodes.replicas("Jobs").values()
    return min(set(nodes.replicas("Upscaler").values()) - {nodes.head_id, jobs_node})


def figures(answers: list[Answer], victim: str, killed_s: float) -> dict[str, Any]:
    """Count by proxy."""
    by_proxy: dict[bool, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_proxy[answer.node_id == victim and answer.outcome != "200"].append(answer)
    lived, broken = by_proxy[False], by_proxy[True]
    slow = [a.ended_s - a.begun_s for a in lived if a.ended_s > killed_s]
    calm = [a.ended_s - a.begun_s for a in lived if a.ended_s <= killed_s]
    ends = sorted(a.ended_s for a in answers if a.ended_s > killed_s)
    gaps = [b - a for a, b in zip([killed_s, *ends], ends, strict=False)]
    lost = Counter(a.outcome for a in lived if a.outcome != "200")
    lost_again = Counter(str(a.again) for a in broken if a.again != "200")
    return {
        "requests": len(answers),
        "survivors": {
            "requests": len(lived),
            "lost": sum(lost.values()),
            "slowest_s": round(max(slow), 2),
            "slowest_before_s": round(max(calm), 2),
        },
        "dead_proxy": {"broken": len(broken), "lost_after_retry": sum(lost_again.values())},
        "stall_s": round(max(gaps), 2),
        **({"outcomes": dict(lost + lost_again)} if lost or lost_again else {}),
    }


async def _answer(lines: Lines) -> Answer:
    node_id, http = await lines.take()
    begun_s = time.monotonic()
    outcome, again = await _ask(http), None
    if outcome == "200":
        lines.give_back(node_id, http)
    elif not outcome[0].isdigit():
        again = await _ask((await lines.take())[1])
    return Answer(node_id, begun_s, time.monotonic(), outcome, again)


async def _ask(http: httpx.AsyncClient) -> str:
    fields = {"seed": "1", "num_inference_steps": str(STEPS)}
    try:
        files = {"image": ("a.png", photo(64, 64))}
        response = await http.post("/v1/upscale", files=files, data=fields)
    except httpx.TransportError as err:
        return type(err).__name__
    return str(response.status_code)


async def _later(seconds: float, strike: Callable[[], Awaitable[object]]) -> None:
    await asyncio.sleep(seconds)
    await strike()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--rate", type=float, default=5, help="requests a second")
    parser.add_argument("--quick", action="store_true", help="Ray looks for dead nodes each second")
    options = parser.parse_args()
    if options.quick:
        os.environ.update(QUICK)
    with service_on_nodes(ARGS) as nodes:
        found = asyncio.run(measure(nodes, options.seconds, options.rate))
        joined_s = time.monotonic()
        nodes.add()
        wait_until_healthy()
        found["whole_again_s"] = round(time.monotonic() - joined_s, 1)
        nodes.add()
        found["drained"] = asyncio.run(drained(nodes, options.rate))
    print(json.dumps(found), flush=True)
    lost = (found["survivors"]["lost"], found["dead_proxy"]["lost_after_retry"])
    sys.exit(bool(any(lost) or found["drained"]["lost"] or found["drained"]["left"]))


if __name__ == "__main__":
    main()
