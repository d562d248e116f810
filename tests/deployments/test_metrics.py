"""What replicas say of themselves and of their pictures."""

from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from deployments.messages import Order
from deployments.metrics import HttpMetrics, JobMetrics
from deployments.pictures import Picture, promise_of
from deployments.replica_metrics import ReplicaMetrics
from deployments.schemas import TimingsMs
from nullscale.imaging.image_io import SourceImage
from nullscale.maths.consistency import Consistency
from nullscale.maths.params import UpscaleParams
from sr_engine.metrics import PrometheusRecorder

SOURCE = SourceImage(
    samples=np.zeros((2, 2, 3), np.uint8), alpha=None, exif=None, xmp=None, bit_depth=8
)
ORDER = Order(
    source=SOURCE,
    params=UpscaleParams(),
    output_format="png",
    output_quality=None,
    until_s=0.0,
    decode_ms=1.0,
)
EXACT = Consistency(exact=True, exact_share=1.0, reachable=True, psnr_db=None)
NEAR = Consistency(exact=False, exact_share=0.9, reachable=True, psnr_db=50.0)
TIMINGS = TimingsMs(decode=1.0, queue=2000.0, upscale=30.0, encode=4.0)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"nullscale_{name}", labels)


@pytest.mark.parametrize(
    ("changes", "projection", "consistency", "expected"),
    [
        ({}, "pixel", EXACT, "exact"),
        ({"output_format": "jpeg"}, "pixel", EXACT, "exact"),
        ({}, "pixel", NEAR, "broken"),
        ({"output_format": "webp"}, "pixel", NEAR, "broken"),
        ({"output_format": "webp", "output_quality": 80}, "pixel", NEAR, "unpromised"),
        ({"output_format": "jpeg"}, "pixel", NEAR, "unpromised"),
        ({}, "none", NEAR, "unpromised"),
        ({}, "latent", replace(NEAR, reachable=False), "unreachable"),
    ],
)
def test_only_a_promise_can_be_broken(
    changes: dict[str, object], projection: str, consistency: Consistency, expected: str
) -> None:
    params = UpscaleParams(projection=projection)
    assert promise_of(replace(ORDER, params=params, **changes), consistency) == expected


@pytest.mark.parametrize("kind", [HttpMetrics, JobMetrics])
def test_a_picture_leaves_its_parts_in_seconds(kind: type[HttpMetrics] | type[JobMetrics]) -> None:
    recorder = PrometheusRecorder()
    picture = Picture(
        encoded=b"",
        media_type="image/png",
        width=8,
        height=8,
        input_bit_depth=8,
        seed=0,
        model="m",
        consistency=NEAR,
        timings=TIMINGS,
        work_s=1.0,
    )
    kind(recorder).pictures.made(ORDER, picture)
    sums = {
        part: value(recorder.registry, "picture_seconds_sum", part=part)
        for part in ("decode", "queue", "upscale", "encode")
    }
    assert sums == {"decode": 0.001, "queue": 2.0, "upscale": 0.03, "encode": 0.004}
    assert value(recorder.registry, "pictures_total", consistency="broken") == 1


def test_a_worker_says_what_it_is_whenever_it_is_asked_to() -> None:
    recorder = PrometheusRecorder()
    labels = {"version": "1", "model": "m", "device": "cpu", "dtype": "float32"}
    metrics = ReplicaMetrics(recorder, labels, startup_s=3.0, heartbeat_limit_s=120.0)
    for age_s in (0.5, 90.0):
        metrics.refresh(age_s)
        assert value(recorder.registry, "engine_heartbeat_age_seconds") == age_s
    assert value(recorder.registry, "build_info", **labels) == 1
    assert value(recorder.registry, "startup_seconds") == 3
    assert value(recorder.registry, "engine_heartbeat_limit_seconds") == 120


def test_jobs_are_counted_by_state_and_code() -> None:
    recorder = PrometheusRecorder()
    metrics = JobMetrics(recorder)
    metrics.unfinished(queued=3, running=2)
    metrics.ended("failed", "deadline_exceeded")
    assert value(recorder.registry, "unfinished_jobs", state="queued") == 3
    assert value(recorder.registry, "unfinished_jobs", state="running") == 2
    ended = value(recorder.registry, "jobs_total", state="failed", code="deadline_exceeded")
    assert ended == 1
