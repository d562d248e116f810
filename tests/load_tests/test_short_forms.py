"""Short forms of the long load tests, on a real service with a simulated GPU."""

import asyncio

import soak
from cluster import service
from marks import CLUSTER

pytestmark = CLUSTER


def test_a_short_soak() -> None:
    seconds = 30.0
    with service(soak.ARGS, upscalers=1, ingresses=1) as url:
        found = soak.figures(*asyncio.run(soak.load(url, 3, seconds)), seconds)
    assert found["failed"] == {}
    assert set(found["requests"]) <= set(soak.FORMS)
    assert found["requests"]["served"] > 10
    assert set(found["held"]) == {"proxy", "ingress", "jobs", "upscaler", "controller", "raylet"}
    for held in found["held"].values():
        for name, values in held.items():
            assert min(value for value in values if value is not None) > 0, name
