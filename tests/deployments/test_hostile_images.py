"""A few hundred hostile files; `load_tests/hostile_images.py` has them all."""

import pytest
from hostile_bombs import bombs
from hostile_corpus import FAMILIES, Case, corpus, members, sample
from hostile_formats import written
from hostile_images import attack, in_process

MAX_PIXELS = 4096**2


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    # Sixteen megapixels take seconds, and are for the long form.
    return [case for case in corpus(seed=0) if "megapixels" not in case.name]


# Pillow warns of much of this; the service has nobody to tell.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
async def test_hostile_images_get_what_is_promised_and_so_do_their_neighbours(
    cases: list[Case],
) -> None:
    sent = sample(cases, 300)
    assert {case.family for case in sent} == {family.__name__ for family in FAMILIES}
    async with in_process() as http:
        tally = await attack(http, sent, MAX_PIXELS)
    assert tally.complaints == []
    assert (tally.files, tally.server_errors, tally.wrong, tally.neighbours_lost) == (300, 0, 0, 0)
    assert min(tally.ok, tally.refused) > 50, "both sorts were there"


def test_the_corpus_is_large_and_always_the_same(cases: list[Case]) -> None:
    assert len({case.data for case in cases}) >= 5000
    for family in set(FAMILIES) - {bombs, written}:
        of_family = {case for case in cases if case.family == family.__name__}
        assert of_family == set(members(family, 0))


async def test_a_service_that_promises_something_else_is_caught(cases: list[Case]) -> None:
    small = [case for case in cases if case.family == "shapes"][:14]
    async with in_process() as http:
        # The oracle is told of a limit that the service does not have.
        tally = await attack(http, small, 0)
    assert (tally.wrong, tally.neighbours_lost) == (14, 2)
