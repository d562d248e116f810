"""The HTTP contract, against a replica that answers in this process."""

import asyncio
import base64
import io
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from fake_service import LIMITS, application, client, picture, pointers, problem, send
from fake_upscaler import FakeUpscaler
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from ray.exceptions import ActorDiedError, ObjectStoreFullError, OutOfDiskError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.form_schema import FORM_FIELDS, REQUEST_FIELDS
from deployments.kinds import KINDS
from nullscale.errors import (
    EngineDead,
    EngineError,
    EngineOverloaded,
    InvalidParameter,
    InvalidResult,
)
from nullscale.maths.params import UpscaleParams
from nullscale.maths.presets import PRESETS, Preset


async def post(
    upscaler: FakeUpscaler,
    *,
    image: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout_s: float = 30.0,
    **fields: Any,
) -> httpx.Response:
    async with client(upscaler, timeout_s=timeout_s) as http:
        return await send(http, image, headers, **fields)


async def test_a_picture_comes_back_upscaled() -> None:
    upscaler = FakeUpscaler()
    response = await post(upscaler, seed="7", scale="3")
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-seed"] == "7"
    assert response.headers["x-model"] == "fake"
    assert response.headers["x-content-type-options"] == "nosniff"
    timings = [part.partition(";dur=") for part in response.headers["server-timing"].split(", ")]
    assert [name for name, _, _ in timings] == ["decode", "queue", "upscale", "encode"]
    assert all(float(duration) >= 0 for _, _, duration in timings)
    with Image.open(io.BytesIO(response.content)) as answer:
        assert answer.size == (18, 24)
    (call,) = upscaler.calls
    with Image.open(io.BytesIO(picture())) as sent:
        np.testing.assert_array_equal(call["image"], np.asarray(sent))
    assert call["params"]["scale"] == 3
    assert call["params"]["num_inference_steps"] == 5, "the model's own default"


async def test_consistency_is_measured() -> None:
    exact = await post(FakeUpscaler(), image=picture(flat=True))
    assert exact.headers["x-consistency-exact"] == "?1"
    assert "x-consistency-psnr" not in exact.headers
    off = await post(FakeUpscaler())
    assert off.headers["x-consistency-exact"] == "?0"
    with Image.open(io.BytesIO(off.content)) as answer, Image.open(io.BytesIO(picture())) as sent:
        small = answer.resize(sent.size, Image.Resampling.BICUBIC)
        error = np.asarray(small).astype(float) - np.asarray(sent)
    psnr_db = 10 * np.log10(255**2 / np.mean(error**2))
    assert float(off.headers["x-consistency-psnr"]) == pytest.approx(psnr_db, abs=0.006)


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
async def test_of_a_lossy_file_consistency_is_that_of_what_it_decodes_to(
    output_format: str,
) -> None:
    # Samples that would give the input back, before the file's losses.
    echo = FakeUpscaler(echo=True)
    response = await post(echo, scale="1", output_format=output_format, output_quality="30")
    assert response.headers["x-consistency-exact"] == "?0"
    with (
        Image.open(io.BytesIO(response.content)) as answer,
        Image.open(io.BytesIO(picture())) as sent,
    ):
        assert answer.size == sent.size
        error = np.asarray(answer.convert("RGB")).astype(float) - np.asarray(sent)
    psnr_db = 10 * np.log10(255**2 / np.mean(error**2))
    assert float(response.headers["x-consistency-psnr"]) == pytest.approx(psnr_db, abs=0.006)


async def test_a_drawn_seed_is_reported_and_makes_the_picture_again() -> None:
    first, other = await post(FakeUpscaler()), await post(FakeUpscaler())
    again = await post(FakeUpscaler(), seed=first.headers["x-seed"])
    assert first.content == again.content
    assert first.content != other.content
    assert 0 <= int(first.headers["x-seed"]) < 2**32


@pytest.mark.parametrize(
    ("output_format", "quality", "pillow"),
    [
        ("png", None, "PNG"),
        ("jpeg", None, "JPEG"),
        ("jpeg", "50", "JPEG"),
        ("webp", None, "WEBP"),
        ("webp", "50", "WEBP"),
    ],
)
async def test_output_formats(output_format: str, quality: str | None, pillow: str) -> None:
    fields = {"output_format": output_format, **({"output_quality": quality} if quality else {})}
    response = await post(FakeUpscaler(), **fields)
    assert response.headers["content-type"] == f"image/{output_format}"
    with Image.open(io.BytesIO(response.content)) as answer:
        assert answer.format == pillow
    # Nothing of the name that was sent.
    disposition = f'inline; filename="upscaled.{output_format}"'
    assert response.headers["content-disposition"] == disposition


async def test_any_folder_may_hold_a_model() -> None:
    upscaler = FakeUpscaler()
    upscaler.description = replace(upscaler.description, name="模型\n1")
    response = await post(upscaler)
    assert response.headers["x-model"] == "%E6%A8%A1%E5%9E%8B%0A1"


async def test_json_on_request() -> None:
    response = await post(
        FakeUpscaler(), image=picture(flat=True), seed="1", headers={"Accept": "application/json"}
    )
    body = response.json()
    with Image.open(io.BytesIO(base64.b64decode(body["image"]))) as answer:
        assert (answer.size, answer.format) == ((24, 32), "PNG")
    assert (body["width"], body["height"], body["seed"], body["model"]) == (24, 32, 1, "fake")
    assert (body["consistency_exact"], body["consistency_psnr_db"]) == (True, None)
    assert (body["bit_depth"], body["input_bit_depth"]) == (8, 8)
    assert set(body["timings_ms"]) == {"decode", "queue", "upscale", "encode"}


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("text/html, image/png;q=0.5", "image/png"),
        ("application/json, image/*;q=0.8", "application/json"),
        ("application/json;q=0.1, */*", "image/png"),
        ("application/*, image/png;q=0", "application/json"),
    ],
)
async def test_accept_decides(accept: str, expected: str) -> None:
    response = await post(FakeUpscaler(), headers={"Accept": accept})
    assert response.headers["content-type"] == expected


async def test_all_lines_of_accept_are_read() -> None:
    for lines, expected in (
        (["text/html", "image/png"], "image/png"),
        (["image/*;q=0.5", "application/json"], "application/json"),
        ([""], "image/png"),
    ):
        async with client(FakeUpscaler()) as http:
            response = await http.post(
                "/v1/upscale",
                files={"image": ("a.png", picture())},
                headers=[("Accept", line) for line in lines],
            )
        assert response.headers["content-type"] == expected


async def test_what_cannot_be_made_is_not_acceptable() -> None:
    upscaler = FakeUpscaler()
    problem(await post(upscaler, headers={"Accept": "image/gif"}), 406, "not_acceptable")
    assert not upscaler.calls


BAD_FIELDS = {
    "scale": [
        "nan",
        "inf",
        "1e999",
        "1.05",
        "0",
        "-4",
        "16.1",
        "true",
        "",
        " 4",
        "4 ",
        "4x",
        "1_0",
    ],
    "num_inference_steps": ["0", "1000000000", "8.0", "8.5", "true", "1e1", "٨", "9" * 5000],
    "guidance_strength": ["-0.1", "2.5", "NaN", "Infinity"],
    "seed": ["-1", "4294967296", "1.0", "null", "false"],
    "prompt": ["ü" * 2001],
    "guidance_scale": ["-1", "20.5", "nan"],
    "projection": ["PIXEL", "", "0"],
    "eta": ["-0.01", "1.01", "nan"],
    "rederive": ["1", "True", "yes", ""],
    "strength": ["0", "1.5", "nan"],
    "sigma_spacing": ["even", ""],
    "ending": ["pixel", ""],
    "sigma_y": ["-0.1", "1.5", "nan", "auto"],
    "travel_length": ["-1", "1001", "2.5"],
    "travel_repeats": ["0", "1001", "x"],
    "preset": ["Sharp", "", "best"],
    "output_format": ["gif", "PNG", ""],
    "output_quality": ["0", "101", "9.5"],
    "metadata": ["all", "", "true"],
    "deadline_s": ["0", "-1", "nan", "1e9"],
    "async": ["1", "yes", ""],
    "image_url": ["http://127.0.0.1/"],
    "a/b~c": ["1"],
}


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in BAD_FIELDS.items() for text in texts]
)
async def test_a_bad_field_is_named(name: str, text: str) -> None:
    upscaler = FakeUpscaler(prompts=True)
    details = problem(await post(upscaler, **{name: text}), 422, "invalid_parameter")
    assert pointers(details) == {"#/" + name.replace("~", "~0").replace("/", "~1")}
    assert not upscaler.calls and not details.retryable


async def test_every_bad_field_is_named_at_once() -> None:
    response = await post(FakeUpscaler(), scale="nan", eta="2", colour="red", seed=["1", "2"])
    details = problem(response, 422, "invalid_parameter")
    assert pointers(details) == {"#/scale", "#/eta", "#/colour", "#/seed"}


async def test_fields_that_are_too_much_together_are_refused() -> None:
    upscaler = FakeUpscaler()
    fields = {"num_inference_steps": "100", "travel_length": "1", "travel_repeats": "50"}
    details = problem(await post(upscaler, **fields), 422, "invalid_parameter")
    assert pointers(details) == {"#/travel_repeats"}
    assert not upscaler.calls


@pytest.mark.parametrize("preset", Preset)
async def test_a_preset_gives_way_to_what_is_said_beside_it(preset: Preset) -> None:
    upscaler = FakeUpscaler()
    assert (await post(upscaler, preset=preset.value, seed="1", eta="0.25")).status_code == 200
    assert (await post(upscaler, seed="1", eta="0.25")).status_code == 200
    with_preset, without = (call["params"] for call in upscaler.calls)
    assert with_preset == {**without, **PRESETS[preset], "eta": 0.25}


NUMBERS = [
    name
    for name, schema in FORM_FIELDS.items()
    if schema["type"] in ("number", "integer") and name not in REQUEST_FIELDS
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NUMBERS), st.floats() | st.integers(-(2**33), 2**33).map(float))
def test_documented_ranges_are_the_enforced_ones(name: str, value: float) -> None:
    schema = FORM_FIELDS[name]
    ranges = schema.get("anyOf", [schema])
    documented = any(
        value == r["const"] if "const" in r else r["minimum"] <= value <= r["maximum"]
        for r in ranges
    )
    given_value: float | int = value
    if schema["type"] == "integer":
        if not value.is_integer():
            return
        given_value = int(value)
    try:
        UpscaleParams().override({name: given_value})
        enforced = True
    except InvalidParameter:
        enforced = False
    assert documented == enforced


def test_the_form_has_every_parameter() -> None:
    parameters = set(UpscaleParams.__dataclass_fields__)
    assert set(FORM_FIELDS) == parameters | set(REQUEST_FIELDS)


async def test_prompts_need_a_model_that_takes_them() -> None:
    upscaler = FakeUpscaler()
    details = problem(await post(upscaler, prompt="a cat"), 422, "prompt_unsupported")
    assert pointers(details) == {"#/prompt"} and not upscaler.calls
    assert (await post(upscaler, prompt="")).status_code == 200
    able = FakeUpscaler(prompts=True)
    assert (await post(able, prompt="ein Kätzchen", guidance_scale="4.5")).status_code == 200
    assert able.calls[0]["params"]["prompt"] == "ein Kätzchen"


@pytest.mark.parametrize(
    ("image", "status", "code"),
    [
        (b"", 422, "invalid_image"),
        (picture()[:-30], 422, "invalid_image"),
        (b"GIF89a", 415, "unsupported_media_type"),
        (picture(size=(65, 64)), 422, "image_too_many_pixels"),
    ],
    ids=["empty", "truncated", "gif", "large"],
)
async def test_bad_pictures_never_reach_a_replica(image: bytes, status: int, code: str) -> None:
    upscaler = FakeUpscaler()
    details = problem(await post(upscaler, image=image), status, code)
    assert pointers(details) == {"#/image"} and not upscaler.calls


async def test_transparency_is_kept_or_refused_before_the_replica() -> None:
    rgba = np.full((8, 6, 4), 128, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, "PNG")
    upscaler = FakeUpscaler()
    details = problem(
        await post(upscaler, image=buffer.getvalue(), output_format="jpeg"), 422, "invalid_image"
    )
    assert pointers(details) == {"#/image"} and not upscaler.calls
    for output_format in ("png", "webp"):
        kept = await post(upscaler, image=buffer.getvalue(), output_format=output_format)
        with Image.open(io.BytesIO(kept.content)) as answer:
            np.testing.assert_array_equal(np.asarray(answer), np.full((32, 24, 4), 128))
        assert kept.headers["x-consistency-exact"] == "?1"


async def test_output_over_the_limit() -> None:
    image = picture(size=(64, 64))
    assert (await post(FakeUpscaler(), image=image)).status_code == 200
    problem(await post(FakeUpscaler(), image=image, scale="4.1"), 422, "image_too_many_pixels")


async def test_the_image_is_required_once_and_as_a_file() -> None:
    png = ("a.png", picture())
    for files in ([("other", png)], [("image", png), ("image", png)], [("image", (None, b"text"))]):
        async with client(FakeUpscaler()) as http:
            response = await http.post("/v1/upscale", files=files)
        assert "#/image" in pointers(problem(response, 422, "invalid_parameter"))


def form_of(**fields: bytes) -> bytes:
    """A multipart body with ``x`` between a picture and the fields."""
    parts = [b'name="image"; filename="a"\r\n\r\n' + picture()]
    parts += [b'name="%b"\r\n\r\n%b' % (name.encode(), text) for name, text in fields.items()]
    head = b"--x\r\nContent-Disposition: form-data; "
    return b"".join(head + part + b"\r\n" for part in parts) + b"--x--\r\n"


async def test_declared_and_streamed_bodies_are_limited() -> None:
    upscaler, sent = FakeUpscaler(), 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        while True:
            sent += 10_000
            yield bytes(10_000)

    async with client(upscaler) as http:
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        declared = [
            await http.post("/v1/upscale", content=b"", headers={**form, "Content-Length": length})
            for length in ("100001", "9" * 5000)
        ]
        streamed = await http.post("/v1/upscale", content=endless(), headers=form)
    for response in (*declared, streamed):
        problem(response, 413, "body_too_large")
        assert response.headers["connection"] == "close"
    assert sent <= 2 * LIMITS.max_body_bytes


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b"no boundary here"),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 65 + b"--x--",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n%b\r\n--x--'
            % bytes(70_000),
        ),
    ],
    ids=["no boundary", "junk", "no name", "many fields", "long field"],
)
async def test_malformed_multipart(content_type: str, body: bytes) -> None:
    async with client(FakeUpscaler()) as http:
        response = await http.post(
            "/v1/upscale", content=body, headers={"Content-Type": content_type}
        )
    problem(response, 400, "malformed_multipart")


@pytest.mark.parametrize(
    "charset",
    ["undefined", "punycode", "unicode_escape", "utf-7", "latin-1", "rot13", '""', "nonsense"],
)
async def test_text_is_utf_8(charset: str) -> None:
    upscaler = FakeUpscaler(prompts=True)
    async with client(upscaler) as http:
        for given, status in ((charset, 400), ("UTF-8", 200), ('"utf8"', 200)):
            response = await http.post(
                "/v1/upscale",
                content=form_of(prompt=b"a\\ud800"),
                headers={"Content-Type": f"multipart/form-data; boundary=x; charset={given}"},
            )
            assert response.status_code == status
            if status == 400:
                problem(response, 400, "malformed_multipart")
                assert not upscaler.calls and response.headers["connection"] == "close"
    assert [call["params"]["prompt"] for call in upscaler.calls] == ["a\\ud800"] * 2


def test_no_prompt_holds_half_a_character() -> None:
    upscaler = FakeUpscaler(prompts=True)
    app = application(upscaler)

    async def sent(text: bytes) -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.post(
                "/v1/upscale",
                content=form_of(prompt=text),
                headers={"Content-Type": "multipart/form-data; boundary=x"},
            )

    halves = b"\xed\xa0\x80", b"\xff\xfe", b"\xc3", b"a\xed\xb0\x80\xf0\x9f", bytes(range(128, 256))
    for text in halves:
        assert asyncio.run(sent(text)).status_code == 200
        upscaler.calls[-1]["params"]["prompt"].encode()


async def test_other_bodies_are_unsupported() -> None:
    async with client(FakeUpscaler()) as http:
        problem(await http.post("/v1/upscale", json={}), 415, "unsupported_media_type")
        problem(await http.post("/v1/upscale"), 415, "unsupported_media_type")


def dead() -> ActorDiedError:
    return ActorDiedError()


async def test_a_lost_replica_is_retried_with_the_same_seed() -> None:
    upscaler = FakeUpscaler(dead(), dead())
    response = await post(upscaler)
    assert response.status_code == 200
    first, second, third = upscaler.calls
    assert first["params"] == second["params"] == third["params"]
    assert str(first["params"]["seed"]) == response.headers["x-seed"]


@pytest.mark.parametrize("error", [dead(), EngineDead("stopped")], ids=["replica", "engine"])
async def test_three_lost_replicas_are_a_503(error: Exception) -> None:
    upscaler = FakeUpscaler(error, error, error)
    response = await post(upscaler)
    details = problem(response, 503, "replica_lost")
    assert details.retryable and len(upscaler.calls) == 3
    assert int(response.headers["retry-after"]) > 0


async def test_overload_is_a_503() -> None:
    upscaler = FakeUpscaler(BackPressureError(num_queued_requests=9, max_queued_requests=9))
    response = await post(upscaler)
    assert problem(response, 503, "overloaded").retryable
    assert int(response.headers["retry-after"]) > 0
    assert len(upscaler.calls) == 1


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (EngineError("the weights in /srv/x.py are on fire"), 500, "inference_failed"),
        (InvalidResult("NaN"), 500, "inference_invalid"),
        (InvalidParameter("eta", "must be smaller"), 422, "invalid_parameter"),
        (RuntimeError("secret of /srv/x.py"), 500, "internal_error"),
    ],
)
@pytest.mark.parametrize("over_ray", [False, True])
async def test_engine_errors_are_problems(
    error: Exception, status: int, code: str, over_ray: bool
) -> None:
    if over_ray:
        error = RayTaskError("upscale", "Traceback: File x.py", error, "", 1, "")
        error = error.as_instanceof_cause()
    upscaler = FakeUpscaler(error)
    details = problem(await post(upscaler), status, code)
    assert "secret" not in details.detail and len(upscaler.calls) == 1


async def test_the_deadline_frees_the_replica() -> None:
    upscaler = FakeUpscaler(delay_s=30)
    problem(await post(upscaler, timeout_s=0.05), 504, "deadline_exceeded")
    assert [response.cancelled for response in upscaler.upscale.responses] == [True]


async def test_a_client_that_goes_away_frees_the_replica() -> None:
    upscaler = FakeUpscaler(delay_s=30)
    waiting = asyncio.create_task(post(upscaler))
    while not upscaler.calls:
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert [response.cancelled for response in upscaler.upscale.responses] == [True]


async def test_the_request_id_is_the_clients_where_it_is_plain() -> None:
    upscaler = FakeUpscaler(*[RuntimeError()] * 3)
    kept = await post(upscaler, headers={"X-Request-Id": "order_66-b"})
    assert kept.json()["request_id"] == "order_66-b" == upscaler.calls[0]["request_id"]
    for bad in ("x" * 65, "a b", "<script>"):
        response = await post(FakeUpscaler(RuntimeError()), headers={"X-Request-Id": bad})
        assert response.json()["request_id"] != bad


async def test_probes() -> None:
    upscaler = FakeUpscaler()
    async with client(upscaler) as http:
        for path, status in (("/livez", "alive"), ("/readyz", "ready")):
            assert (await http.get(path)).json() == {"status": status}
            head = await http.head(path)
            assert (head.status_code, head.content) == (200, b"")
        upscaler.describe_errors = [dead(), DeploymentUnavailableError("Upscaler")]
        problem(await http.get("/readyz"), 503, "not_ready")
        response = await http.get("/readyz")
        problem(response, 503, "not_ready")
        assert int(response.headers["retry-after"]) > 0
        assert (await http.get("/livez")).status_code == 200


async def test_full_replicas_are_ready_and_lost_ones_are_not() -> None:
    full = BackPressureError(num_queued_requests=9, max_queued_requests=9)
    upscaler = FakeUpscaler()
    async with client(upscaler) as http:
        upscaler.describe_errors = [full]
        assert (await http.get("/readyz")).status_code == 503, "nobody has answered yet"
        assert (await http.get("/readyz")).status_code == 200
        upscaler.describe_errors = [full, dead(), full]
        assert (await http.get("/readyz")).status_code == 200
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/readyz")).status_code == 503


async def test_silent_replicas_are_ready_only_where_there_are_any() -> None:
    for running, status in ((1, 200), (0, 503)):
        upscaler = FakeUpscaler()
        async with client(upscaler, running=running) as http:
            assert (await http.get("/readyz")).status_code == 200
            upscaler.silent = True
            assert (await http.get("/readyz")).status_code == status


async def test_without_any_replica_a_picture_is_refused_before_its_body_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deployments.dispatch.KNOWN_TIMEOUT_S", 0.05)
    upscaler = FakeUpscaler()
    upscaler.silent = True

    async def unread() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    async with client(upscaler, running=0) as http:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        response = await http.post("/v1/upscale", content=unread(), headers=headers)
        problem(response, 503, "not_ready")
        assert response.headers["connection"] == "close"
        # The question waits on; once it is answered, everything is taken.
        upscaler.silent = False
        await asyncio.sleep(0.05)
        assert (await send(http)).status_code == 200
    assert len(upscaler.describe.responses) == 1


async def test_a_new_ingress_waits_for_full_replicas_to_say_what_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deployments.dispatch.KNOWN_TIMEOUT_S", 0.05)
    upscaler = FakeUpscaler()
    upscaler.silent = True
    async with client(upscaler, running=1) as http:
        sent = [asyncio.create_task(send(http)) for _ in range(3)]
        await asyncio.sleep(0.3)
        upscaler.silent = False
        assert {response.status_code for response in await asyncio.gather(*sent)} == {200}
    assert len(upscaler.describe.responses) == 1


async def test_full_replicas_are_waited_for_no_longer_than_a_picture_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deployments.dispatch.KNOWN_TIMEOUT_S", 0.05)
    upscaler = FakeUpscaler()
    upscaler.silent = True
    async with client(upscaler, running=1, timeout_s=0.2) as http:
        problem(await send(http), 503, "not_ready")


@pytest.mark.parametrize(("lost", "status"), [(2, 200), (3, 503)])
async def test_a_replica_lost_on_the_question_costs_no_picture(lost: int, status: int) -> None:
    upscaler = FakeUpscaler()
    upscaler.describe_errors = [dead()] * lost
    assert (await post(upscaler)).status_code == status
    assert len(upscaler.describe.responses) == 3


async def test_another_model_is_noticed_by_its_pictures() -> None:
    upscaler = FakeUpscaler()
    async with client(upscaler) as http:
        for name, steps in (("old", 5), ("new", 7)):
            defaults = UpscaleParams(num_inference_steps=steps)
            upscaler.description = replace(upscaler.description, name=name, defaults=defaults)
            assert (await send(http)).headers["x-model"] == name
            await asyncio.sleep(0.01)
        assert (await send(http)).status_code == 200
    assert [call["params"]["num_inference_steps"] for call in upscaler.calls] == [5, 5, 7]
    assert len(upscaler.describe.responses) == 2


@pytest.mark.parametrize("error", [OutOfDiskError("/srv/x.py"), ObjectStoreFullError("/srv/x.py")])
async def test_no_room_for_a_picture_on_its_way_is_a_503(error: Exception) -> None:
    problem(await post(FakeUpscaler(error)), 503, "overloaded")


async def test_an_overloaded_worker_is_not_asked_for_ever() -> None:
    upscaler = FakeUpscaler(*[EngineOverloaded(7.2)] * 9)
    response = await post(upscaler)
    problem(response, 503, "overloaded")
    assert (response.headers["retry-after"], len(upscaler.calls)) == ("8", 2)


async def test_models() -> None:
    async with client(FakeUpscaler()) as http:
        (model,) = (await http.get("/v1/models")).json()["models"]
    assert (model["name"], model["native_px"], model["prompts"]) == ("fake", 64, False)
    assert model["limits"] == LIMITS.model_dump()
    assert model["defaults"]["num_inference_steps"] == 5
    assert None not in model["defaults"].values()
    assert model["presets"] == PRESETS


async def test_unknown_routes_and_methods_are_problems() -> None:
    async with client(FakeUpscaler()) as http:
        for path in ("/nope", "/v1/upscale/", "/v1/../etc/passwd"):
            problem(await http.get(path), 404, "not_found")
        response = await http.get("/v1/upscale")
        problem(response, 405, "method_not_allowed")
        assert response.headers["allow"] == "POST"
        response = await http.post("/v1/jobs/a")
        problem(response, 405, "method_not_allowed")
        assert response.headers["allow"] == "DELETE, GET"


async def test_the_openapi_document_is_whole() -> None:
    async with client(FakeUpscaler()) as http:
        document = (await http.get("/openapi.json")).json()
        assert (await http.get("/docs")).status_code == 200
    job = "/v1/jobs/{job_id}"
    assert set(document["paths"]) == {
        *("/v1/upscale", "/v1/models", job, f"{job}/result", f"{job}/events"),
        *("/livez", "/readyz"),
    }
    operation = document["paths"]["/v1/upscale"]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(form["properties"]) == {"image", *FORM_FIELDS}
    assert form["additionalProperties"] is False
    answers = operation["responses"]["200"]["content"]
    assert {"image/png", "image/jpeg", "image/webp", "application/json"} <= set(answers)
    # Every reference leads somewhere.
    for reference in {part.split('"')[0] for part in json.dumps(document).split('"$ref": "')[1:]}:
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


async def test_every_problem_is_documented_where_it_can_come() -> None:
    async with client(FakeUpscaler()) as http:
        document = (await http.get("/openapi.json")).json()
    told: set[str] = set()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            # A default would allow any status at all.
            assert all(re.fullmatch("[2-5][0-9]{2}", status) for status in operation["responses"])
            for status, answer in operation["responses"].items():
                if status < "400":
                    continue
                assert set(answer["content"]) == {"application/problem+json"}, (path, status)
                codes = set(re.findall(r"^`(\w+)`", answer["description"], re.MULTILINE))
                assert codes and {KINDS[c].status for c in codes & set(KINDS)} <= {int(status)}
                told |= codes
            # Those that the proxy gives, whatever the path.
            assert {"404", "405", "408", "413", "431", "500", "503"} <= set(operation["responses"])
    assert told == {*KINDS, "method_not_allowed"}


async def test_a_slow_body_is_cut_off() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        await asyncio.sleep(30)
        yield b""

    impatient = LIMITS.model_copy(update={"body_timeout_s": 0.05})
    async with client(FakeUpscaler(), limits=impatient) as http:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        response = await http.post("/v1/upscale", content=slow(), headers=headers)
    assert problem(response, 408, "body_timeout").retryable
    assert response.headers["connection"] == "close"


async def test_overload_is_refused_before_the_body_is_read() -> None:
    upscaler = FakeUpscaler()
    hurried = LIMITS.model_copy(update={"max_wait_s": 1.0})

    async def unread() -> AsyncIterator[bytes]:
        pytest.fail("the body was read")
        yield b""

    async with client(upscaler, limits=hurried) as http:
        upscaler.delay_s = 1.0
        first = asyncio.create_task(send(http))
        await asyncio.sleep(0.5)
        # Comes back half a second after the first.
        assert (await send(http)).status_code == (await first).status_code == 200
        upscaler.delay_s = 30
        waiting = [asyncio.create_task(send(http)) for _ in range(100)]
        # None is answered so soon but those that are refused.
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        response = await http.post("/v1/upscale", content=unread(), headers=headers)
        assert problem(response, 503, "overloaded").retryable
        assert int(response.headers["retry-after"]) > 0
        assert response.headers["connection"] == "close"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        upscaler.delay_s = 0
        assert (await send(http)).status_code == 200


async def test_the_clients_deadline_holds_and_the_servers_caps_it() -> None:
    upscaler = FakeUpscaler(delay_s=30)
    problem(await post(upscaler, deadline_s="0.05"), 504, "deadline_exceeded")
    problem(await post(upscaler, deadline_s="86400", timeout_s=0.05), 504, "deadline_exceeded")
    assert upscaler.upscale.responses[1].cancelled


async def test_retries_have_a_budget() -> None:
    upscaler = FakeUpscaler(*[dead()] * 1000)
    async with client(upscaler) as http:
        for _ in range(100):
            problem(await send(http), 503, "replica_lost")
    # 64 retries at once, and one for every five requests.
    assert 64 + 100 <= len(upscaler.calls) <= 64 + 20 + 100


async def test_transparency_and_metadata() -> None:
    rgba = Image.new("RGBA", (6, 4), (200, 100, 50, 128))
    exif = Image.Exif()
    exif[0x010E] = "a picture of tests"
    buffer = io.BytesIO()
    rgba.save(buffer, "PNG", exif=exif)
    async with client(FakeUpscaler()) as http:
        for metadata in ("strip", "keep"):
            response = await send(http, buffer.getvalue(), metadata=metadata)
            assert response.headers["x-bit-depth"] == "8"
            with Image.open(io.BytesIO(response.content)) as answer:
                assert (answer.mode, answer.size) == ("RGBA", (24, 16))
                assert (0x010E in answer.getexif()) == (metadata == "keep")
                samples = np.asarray(answer).astype(int)
            assert np.abs(samples - [200, 100, 50, 128]).max() <= 1
        details = problem(
            await send(http, buffer.getvalue(), output_format="jpeg"), 422, "invalid_image"
        )
        assert pointers(details) == {"#/image"}
