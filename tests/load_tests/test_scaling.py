"""Scaling, planning and HTTP against the engine, on one small cluster of the simulated GPU.

`bench_scaling.py`, `bench_plan.py` and `bench_http.py` are the long forms, with figures.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import bench_engine
import bench_http
import bench_plan
import bench_scaling
import pytest
from cluster import configured, deployment_of, running
from marks import CLUSTER

from nullscale.simulation.capacity import Service
from nullscale.simulation.devices import find_device
from nullscale.simulation.simulated import SimulatedModel, SimulatedRequest
from sr_engine.engine import SREngine

pytestmark = CLUSTER

NAME = "sd3.5-medium-h100?slow=2"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """One worker, until `bench_scaling` has made them two."""
    return configured(bench_scaling.settings(slow=2), {"Upscaler": 1, "Ingress": 1})


@pytest.fixture(scope="module")
def url(config: dict[str, Any]) -> Iterator[str]:
    """The service, ready."""
    with running(config) as url:
        yield url


def test_http_against_the_engine(url: str) -> None:
    engine = SREngine(SimulatedModel(NAME), begin=SimulatedRequest)
    given = bench_engine.requests(engine, 4, side_px=256)
    found = bench_http.measure(url, engine, given, at_once=4, rounds=1)
    assert found["rounds"] == [found["ratio"]]
    assert 0.2 < found["ratio"] < 2


async def test_two_workers_make_more_than_one_and_every_part_is_told(
    url: str, config: dict[str, Any]
) -> None:
    found = await bench_scaling.measure(url, config, [1, 2], seconds=4, requests=5)
    assert found["efficiency"][1] == 1
    assert found["per_s"][2] > 1.2 * found["per_s"][1]
    assert set(found["added_ms"]) == {"decode", "queue", "upscale", "encode", "rest"}
    assert found["added_ms"]["rest"] > 0
    assert found["ingress_per_s"]["tiny"] > found["ingress_per_s"]["picture"] > 0


async def test_the_plan_is_compared_with_what_comes(url: str, config: dict[str, Any]) -> None:
    await asyncio.to_thread(bench_scaling.resize, config, 2)
    upscaler = deployment_of(config, "Upscaler")
    active, ongoing = upscaler["user_config"]["max_active"], upscaler["max_ongoing_requests"]
    service = Service(find_device(NAME), active, ongoing, added_s=0.15)
    expected = bench_plan.expect(service, 2, load=0.5, requests=100, loads=1)
    found = await bench_plan.measure(url, 2, service, expected, requests=40, full_s=5)
    assert found["requests"] == 40
    assert abs(found["throughput_error"]) < 0.5
    # Nothing is sooner than the device allows.
    assert found["measured"]["p95_s"] > 0.7 * max(
        model.work_s for kind, model in bench_plan.models(service).items() if kind.name == "one"
    )
