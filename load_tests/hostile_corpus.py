"""Files that no picture service wants to be sent, made from a seed.

Each family is one function. What a file must be answered with is not said here: `hostile_oracle`
judges the bytes alone.
"""

import itertools
import random
import warnings
from dataclasses import dataclass

from hostile_bombs import bombs, declared
from hostile_damage import containers, flipped, resummed, segments, truncated
from hostile_files import Family
from hostile_formats import headers, magics, shapes, written
from hostile_metadata import orientations, polyglots, profiles


@dataclass(frozen=True, slots=True)
class Case:
    """One file and the family that it comes from."""

    name: str
    data: bytes

    @property
    def family(self) -> str:
        """The part of the name before the first slash."""
        return self.name.split("/")[0]


def corpus(seed: int = 0) -> list[Case]:
    """Every case, in an order that mixes the families."""
    cases = [case for family in FAMILIES for case in members(family, seed)]
    random.Random(seed).shuffle(cases)
    return cases


def members(family: "Family", seed: int) -> list[Case]:
    """The cases of one family."""
    name = family.__name__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [Case(f"{name}/{n}", data) for n, data in family(random.Random(f"{name}-{seed}"))]


def sample(cases: list[Case], count: int) -> list[Case]:
    """The same number of each family, as far as it has as many."""
    families = [[c for c in cases if c.family == f.__name__] for f in FAMILIES]
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*families))
    return [case for case in in_turn if case is not None][:count]


FAMILIES: tuple[Family, ...] = (
    written, magics, truncated, flipped, resummed, segments, containers, headers, declared, bombs,
    polyglots, profiles, orientations, shapes,
)  # fmt: skip
