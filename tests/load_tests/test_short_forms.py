"""Short forms of the long load tests, on a real service with a simulated GPU."""

import asyncio

import load_curve
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


def test_a_point_of_the_load_curve() -> None:
    with service(load_curve.ARGS, upscalers=1, ingresses=1) as url:
        found = load_curve.measure(url, [0.5], 12, 8.0)
    (point,) = found["points"]
    assert set(point["outcomes"]) == {"200"}
    # What the replicas have counted has come, and all of it: a single row a batch.
    assert point["rows"] == {"denoise": 1, "decode": 1, "encode": 1}
    assert 0 < point["busy_share"] < 1
