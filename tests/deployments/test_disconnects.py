"""Clients that leave a real service: their pictures leave the engine, and nothing stays behind.

`load_tests/disconnects.py` and `load_tests/soak.py` are the long forms.
"""

from collections.abc import Iterator

import pytest
import soak
from clients import EVERY, LEAVING
from cluster import service
from disconnects import ARGS, IMPORT_PATH, ask, census, leave, mix
from marks import CLUSTER

pytestmark = CLUSTER

CLIENTS = 12
OF_EACH_FORM = 12
SOAK_S = 15.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """One worker with a simulated GPU, ready."""
    with service(ARGS, upscalers=1, ingresses=1, import_path=IMPORT_PATH) as url:
        yield url


@pytest.mark.parametrize("form", LEAVING)
async def test_the_engine_is_free_when_its_clients_have_gone(url: str, form: str) -> None:
    await ask("Upscaler", "batches")
    # Comes back when the engine is idle; one picture that stayed in it would keep it busy too long.
    left = await leave(url, LEAVING[form], CLIENTS, 2.0)
    batches = await ask("Upscaler", "batches")
    assert len(left) == CLIENTS
    assert not any(client.answered for client in left)
    assert any(client.request_id in batch.request_ids for client in left for batch in batches)
    # Readers of events that go away leave their jobs alone.
    assert all(client.went_on for client in left) == (form == "stream")


async def test_nothing_stays_behind(url: str) -> None:
    # Pools of threads and of connections fill.
    await mix(url, 4 * len(EVERY))
    before = await census()
    await mix(url, OF_EACH_FORM * len(EVERY), seed=1)
    after = await census()
    for kind in before:
        for name in before[kind].keys() - {"memory_mb"}:
            # Had requests of one form left something each, there would be this much more.
            assert after[kind][name] < before[kind][name] + OF_EACH_FORM, (kind, before, after)


async def test_a_short_soak(url: str) -> None:
    found = soak.figures(*await soak.load(url, 3, SOAK_S), SOAK_S)
    assert found["failed"] == {}
    assert set(found["requests"]) <= set(soak.FORMS)
    assert found["requests"]["served"] > 5
    assert set(found["held"]) == {"proxy", "ingress", "jobs", "upscaler", "controller", "raylet"}
    for held in found["held"].values():
        for name, values in held.items():
            assert min(value for value in values if value is not None) > 0, name
