"""Settings of a running replica: good ones count, bad ones change nothing."""

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from checkpoints import write_checkpoint
from fake_service import LIMITS, picture, problem, send, service
from fake_upscaler import FakeUpscaler
from fastapi import FastAPI

from deployments.ingress import Ingress
from deployments.limits import IngressSettings
from deployments.upscaler import Upscaler, UpscalerArgs
from nullscale.scheduling.work import Caps


def running(**settings: Any) -> tuple[Ingress, httpx.AsyncClient]:
    ingress, app = service(FakeUpscaler(), IngressSettings(limits=LIMITS, **settings))
    return ingress, client(app)


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def settings(**changed: Any) -> dict[str, Any]:
    return {"limits": {**LIMITS.model_dump(), **changed.pop("limits", {})}, **changed}


async def test_a_limit_counts_from_the_next_request_on() -> None:
    ingress, http = running()
    large = picture(size=(80, 80))
    problem(await send(http, large, scale="1"), 422, "image_too_many_pixels")
    await ingress.reconfigure(settings(limits={"max_input_pixels": 6400}))
    assert (await send(http, large, scale="1")).status_code == 200
    (model,) = (await http.get("/v1/models")).json()["models"]
    assert model["limits"]["max_input_pixels"] == 6400
    await ingress.reconfigure(settings(limits={"max_body_bytes": 300}))
    problem(await send(http), 413, "body_too_large")


async def test_keys_rates_and_origins_change_too(tmp_path: Path) -> None:
    ingress, http = running()
    origin = {"Origin": "https://shop.example"}
    assert "access-control-allow-origin" not in (await send(http, headers=origin)).headers
    (tmp_path / "keys").write_text(f"ann {hashlib.sha256(b'sesame').hexdigest()}")
    access = {
        "keys_file": str(tmp_path / "keys"),
        "requests_per_minute": 2,
        "cors_origins": ["https://shop.example"],
    }
    await ingress.reconfigure(settings(access=access))
    problem(await send(http), 401, "unauthorized")
    key = {"Authorization": "Bearer sesame"}
    response = await send(http, headers=origin | key)
    assert response.headers["access-control-allow-origin"] == "https://shop.example"
    assert (await send(http, headers=key)).status_code == 200
    problem(await send(http, headers=key), 429, "too_many_requests")
    # What has not changed goes on counting.
    await ingress.reconfigure(settings(access=access, limits={"max_wait_s": 1}))
    problem(await send(http, headers=key), 429, "too_many_requests")
    await ingress.reconfigure(settings())
    response = await send(http, headers=origin)
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


async def test_before_an_upgrade_new_jobs_are_refused_and_old_ones_go_on() -> None:
    ingress, http = running()
    made = await send(http, headers={"Prefer": "respond-async"})
    await ingress.reconfigure(settings(take_jobs=False))
    for refused in (
        await send(http, headers={"Prefer": "respond-async"}),
        await send(http, **{"async": "true"}),
    ):
        assert problem(refused, 503, "jobs_paused").retryable
        assert int(refused.headers["retry-after"]) > 0
    assert (await send(http)).status_code == 200
    while (await http.get(made.headers["location"])).json()["status"] != "succeeded":
        await asyncio.sleep(0.01)
    assert (await http.get(f"{made.headers['location']}/result")).status_code == 200


@pytest.mark.parametrize(
    "bad",
    [
        {"limits": {"max_input_pixels": 0}},
        {"limits": {"max_input_pixel": 10}},
        {"access": {"keys_file": "/nowhere/keys"}},
        {"limits": {"max_input_pixels": 1}, "access": {"requests_per_minute": -1}},
        {"take_jobs": "perhaps"},
        None,
        [],
    ],
)
async def test_what_is_bad_changes_nothing_and_is_said_once(
    bad: object, caplog: pytest.LogCaptureFixture
) -> None:
    ingress, http = running()
    before = (await http.get("/v1/models")).json()
    caplog.clear()
    # Were it to raise, Serve would end the replica.
    await ingress.reconfigure(bad)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("user_config is refused, the old one stands: ")
    assert "\n" not in record.getMessage()
    assert (await http.get("/v1/models")).json() == before
    assert (await send(http)).status_code == 200


async def test_a_replica_does_not_start_with_bad_settings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ingress, app = service(FakeUpscaler(), IngressSettings(limits=LIMITS))
    fresh = Ingress(ingress._dispatcher._upscaler, FakeUpscaler(), 30, 30, lambda: 1)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="nowhere"):
        await fresh.reconfigure({"access": {"keys_file": "/nowhere/keys"}})
    assert caplog.records[-1].getMessage().startswith("no replica: user_config: ")
    assert app


async def test_an_engine_works_by_other_caps_without_a_new_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upscaler = Upscaler(UpscalerArgs(model=str(write_checkpoint(tmp_path)), device="cpu"))
    told: list[Caps] = []
    upscaler._engine.limit = told.append  # type: ignore[method-assign]
    await upscaler.reconfigure({"max_active": 2})
    await upscaler.reconfigure({"max_active": 0})
    await upscaler.reconfigure({"max_active": 3, "max_active_pixels": 10, "max_batch_rows": 1})
    assert told == [Caps(2, 2**26, 16), Caps(3, 10, 1)]
    assert "max_active" in caplog.text
    upscaler.close()
