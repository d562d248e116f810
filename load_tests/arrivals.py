"""When requests come and what they ask for: a Poisson process whose rate changes in steps.

A client that waits for its answer before it asks again goes slower where the service does, and so
hides the queue. These come at their times, whatever becomes of those before.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a request asks for; ``share`` is its weight among the kinds of a mix."""

    name: str = "small"
    height_px: int = 256
    width_px: int = 256
    steps: int = 12
    scale: float = 4
    image_format: str = "png"
    output_format: str = "png"
    share: float = 1

    @classmethod
    def parse(cls, words: str) -> "Kind":
        """Read ``name=small,steps=4,…``; what is not named is as above.

        Raises:
            ValueError: a name that is none of the fields', or a value that is no number.
        """
        types = {field.name: type(field.default) for field in fields(cls)}
        given = dict(word.split("=", 1) for word in words.split(","))
        if unknown := given.keys() - types.keys():
            raise ValueError(f"{', '.join(sorted(unknown))}: none of {', '.join(types)}")
        numbers = {"scale": float, "share": float}
        return cls(**{name: numbers.get(name, types[name])(text) for name, text in given.items()})


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a trace: requests a second, for so many seconds."""

    rate: float
    seconds: float

    @classmethod
    def parse(cls, words: str) -> "Piece":
        """Read ``RATE:SECONDS``.

        Raises:
            ValueError: it is not that.
        """
        rate, seconds = map(float, words.split(":"))
        return cls(rate, seconds)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: ``at_s`` is seconds from the start, ``seed`` the picture's."""

    number: int
    at_s: float
    kind: Kind
    seed: int


def poisson(
    trace: Sequence[Piece], mix: Sequence[Kind], *, seed: int = 0, count: int | None = None
) -> Iterator[Arrival]:
    """Yield arrivals in order of time; at most ``count`` of them."""
    rng = random.Random(seed)
    shares = [kind.share for kind in mix]
    number, begin_s = 0, 0.0
    for piece in trace:
        at_s, begin_s = begin_s, begin_s + piece.seconds
        # The process has no memory: each piece may begin afresh.
        while piece.rate and (at_s := at_s + rng.expovariate(piece.rate)) < begin_s:
            if number == count:
                return
            (kind,) = rng.choices(mix, shares)
            yield Arrival(number, at_s, kind, rng.randrange(2**32))
            number += 1


async def at_their_times(
    arrivals: Iterable[Arrival], send: Callable[[Arrival], Coroutine[Any, Any, T]]
) -> list[T]:
    """Call ``send`` for each arrival at its time and return what all of them came to.

    None waits for another. An exception of one ends all.
    """
    start_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for arrival in arrivals:
            await asyncio.sleep(max(0.0, start_s + arrival.at_s - time.perf_counter()))
            tasks.append(group.create_task(send(arrival)))
    return [task.result() for task in tasks]
