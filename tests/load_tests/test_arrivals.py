"""Random arrivals: exponential gaps, shares as asked for, and nobody waits."""

import asyncio

import numpy as np
import pytest
from arrivals import Arrival, Kind, Piece, at_their_times, poisson
from scipy import stats

SHORT, LONG = Kind("short", steps=4, share=3), Kind("long", steps=28, share=1)


def test_gaps_are_exponential() -> None:
    found = list(poisson([Piece(5, 2000)], [SHORT]))
    gaps_s = np.diff([arrival.at_s for arrival in found])
    assert stats.kstest(gaps_s, "expon", args=(0, 1 / 5)).pvalue > 0.01
    assert [arrival.number for arrival in found] == list(range(len(found)))


def test_each_piece_has_its_rate() -> None:
    trace = [Piece(2, 1000), Piece(0, 50), Piece(20, 500)]
    times_s = np.array([arrival.at_s for arrival in poisson(trace, [SHORT])])
    counts, _ = np.histogram(times_s, [0, 1000, 1050, 1550])
    assert counts.sum() == len(times_s)
    assert counts[1] == 0
    # Five standard deviations of a Poisson count.
    for count, expected in ((counts[0], 2000), (counts[2], 10_000)):
        assert abs(count - expected) < 5 * expected**0.5


def test_kinds_come_by_their_shares_and_seeds_are_drawn() -> None:
    found = list(poisson([Piece(10, 1000)], [SHORT, LONG], seed=3))
    share = np.mean([arrival.kind is LONG for arrival in found])
    assert abs(share - 0.25) < 5 * (0.25 * 0.75 / len(found)) ** 0.5
    assert len({arrival.seed for arrival in found}) > 0.99 * len(found)
    assert list(poisson([Piece(10, 1000)], [SHORT, LONG], seed=3, count=7)) == found[:7]


def test_a_kind_and_a_piece_are_read_from_words() -> None:
    kind = Kind.parse("name=large,height_px=512,scale=2,output_format=webp,share=0.5")
    assert kind == Kind("large", 512, scale=2.0, output_format="webp", share=0.5)
    assert Piece.parse("0.5:60") == Piece(0.5, 60)
    with pytest.raises(ValueError, match="width:"):
        Kind.parse("width=3")


async def test_nobody_waits_for_an_answer() -> None:
    arrivals = [Arrival(number, 0.001 * number, SHORT, number) for number in range(20)]
    all_there = asyncio.Barrier(len(arrivals))

    async def send(arrival: Arrival) -> int:
        # Who waited for an answer before asking again would stay here for good.
        await all_there.wait()
        return arrival.number

    async with asyncio.timeout(30):
        assert await at_their_times(arrivals, send) == list(range(20))
