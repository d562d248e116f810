"""A few hundred hostile files; `load_tests/hostile_images.py` has them all."""

import pytest
from hostile_corpus import FAMILIES, corpus, sample
from hostile_images import attack, in_process, neighbour

MAX_PIXELS = 4096**2


# Pillow warns of much of this; the service has nobody to tell.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
async def test_hostile_images_get_what_is_promised_and_their_neighbours_too() -> None:
    cases = sample(corpus(seed=1), 300)
    assert {case.family for case in cases} == {family.__name__ for family in FAMILIES}
    async with in_process() as http:
        tally = await attack(http, cases, MAX_PIXELS)
    assert tally.complaints == []
    assert (tally.files, tally.server_errors, tally.wrong, tally.neighbours_lost) == (300, 0, 0, 0)
    assert min(tally.ok, tally.refused) > 50, "both sorts were there"


def test_the_corpus_is_large_and_always_the_same() -> None:
    cases = corpus(seed=0)
    assert len({case.data for case in cases}) >= 5000
    assert cases == corpus(seed=0)


async def test_a_wrong_service_is_noticed() -> None:
    # One that takes no more than a pixel refuses the neighbours.
    good, verdict = neighbour(MAX_PIXELS)
    assert verdict.status == 200 and neighbour(1)[1].status == 422
    async with in_process() as http:
        tally = await attack(http, sample(corpus(seed=1), 14), 1)
    assert tally.neighbours_lost == 2 and tally.wrong > 0
    assert good
