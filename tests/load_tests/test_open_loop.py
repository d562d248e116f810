"""The generator of requests against the service's own HTTP side with a fake worker."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_loop
import pytest
from arrivals import Arrival, Kind
from fake_service import application
from fake_upscaler import FakeUpscaler
from open_loop import Record, drive, summary
from PIL import Image
from ray.serve.exceptions import BackPressureError
from serving import serving

SMALL = Kind("small", 24, 32, steps=3, scale=2, image_format="webp", output_format="jpeg")
TOO_LARGE = Kind("too large", 128, 128)


@pytest.fixture
def upscaler() -> FakeUpscaler:
    return FakeUpscaler()


@pytest.fixture
def url(upscaler: FakeUpscaler) -> Iterator[str]:
    with serving(lambda: application(upscaler)) as url:
        yield url


async def test_each_request_says_what_became_of_it(url: str, upscaler: FakeUpscaler) -> None:
    kinds = [SMALL, TOO_LARGE, SMALL]
    arrivals = [Arrival(number, 0.01 * number, kinds[number], 7 + number) for number in range(3)]
    found = await drive(url, arrivals)
    assert [record.outcome for record in found] == ["200", "422 image_too_many_pixels", "200"]
    assert sorted(call["params"]["seed"] for call in upscaler.calls) == [7, 9]
    assert {call["params"]["num_inference_steps"] for call in upscaler.calls} == {3}
    for record, arrival in zip(found, arrivals, strict=True):
        assert (record.number, record.intended_s) == (arrival.number, arrival.at_s)
        assert record.first_byte_s is not None
        assert arrival.at_s <= record.sent_s <= record.first_byte_s <= record.done_s
    assert found[0].server_ms is not None
    assert {"decode", "queue", "encode"} <= found[0].server_ms.keys()
    assert found[0].bytes > 0


async def test_a_refusal_says_when_to_come_again() -> None:
    full = FakeUpscaler(BackPressureError(num_queued_requests=9, max_queued_requests=9))
    with serving(lambda: application(full)) as url:
        (record,) = await drive(url, [Arrival(0, 0.0, SMALL, 1)])
    assert record.outcome == "503 overloaded"
    assert record.retry_after_s is not None and record.retry_after_s >= 1


async def test_where_nobody_listens_that_is_the_outcome() -> None:
    (record,) = await drive("http://127.0.0.1:9", [Arrival(0, 0.0, SMALL, 1)])
    assert record.outcome == "ClientConnectorError"
    assert record.first_byte_s is None


async def test_time_counts_from_when_a_request_should_have_been_sent(url: str) -> None:
    (record,) = await drive(url, [Arrival(0, -5.0, SMALL, 1)])
    assert record.latency_s > 5


def test_the_body_holds_the_picture_in_its_format() -> None:
    body = open_loop.body(Arrival(0, 0.0, SMALL, 1))
    with Image.open(io.BytesIO(body[body.index(b"RIFF") :])) as sent:
        assert (sent.format, sent.size) == ("WEBP", (32, 24))


def test_the_summary() -> None:
    rng = np.random.default_rng(0)
    taken_s = rng.exponential(2, 100)
    records = [
        Record(
            number=n,
            kind="a" if n % 2 else "b",
            seed=0,
            intended_s=n * 0.1,
            sent_s=n * 0.1 + 0.002,
            first_byte_s=None,
            done_s=n * 0.1 + taken_s[n],
            outcome="503 overloaded" if n % 5 == 0 else "200",
        )
        for n in range(100)
    ]
    found = summary(records, 10, skip_s=2)
    counted = [n for n in range(20, 100)]
    served = [n for n in counted if n % 5]
    assert found["requests"] == 80
    assert found["outcomes"] == {"200": 64, "503 overloaded": 16}
    assert found["offered_per_s"] == 10
    done = sum(2 <= n * 0.1 + taken_s[n] < 10 for n in range(100) if n % 5)
    assert found["served_per_s"] == round(done / 8, 3)
    assert found["latency_s"]["p95"] == pytest.approx(np.percentile(taken_s[served], 95), abs=1e-3)
    refused = [n for n in counted if n % 5 == 0]
    assert found["refusal_s"]["max"] == pytest.approx(taken_s[refused].max(), abs=1e-3)
    assert found["kinds"]["a"]["requests"] == 40
    assert found["sent_late_p99_ms"] == pytest.approx(2)
    json.dumps(found)
    assert summary([], 10)["latency_s"]["p99"] is None


def test_the_command(url: str, tmp_path: Path) -> None:
    command = [
        *(sys.executable, open_loop.__file__, url, "--trace", "20:1", "--count", "5"),
        *("--kind", "name=a,height_px=8,width_px=8", "--records", tmp_path / "records.jsonl"),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1])["outcomes"] == {"200": 5}
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(5))
