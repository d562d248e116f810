"""Keys, rates and origins."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from fake_service import client, problem, send
from fake_upscaler import FakeUpscaler
from starlette.requests import Request

from deployments.access import Gate
from deployments.keys import KeyFile, holder, read_keys
from deployments.limits import Access
from deployments.problems import Problem


@pytest.fixture
def keys_file(tmp_path: Path) -> str:
    path = tmp_path / "keys.txt"
    lines = [f"{n} {hashlib.sha256(f'token-{n}'.encode()).hexdigest()}" for n in ("ann", "bob")]
    path.write_text("# who may come\n\n" + "\n".join(lines) + "  # the second\n")
    return str(path)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_token_has_a_holder(keys_file: str) -> None:
    keys = read_keys(keys_file)
    assert set(keys) == {"ann", "bob"}
    assert holder("Bearer token-bob", keys) == "bob"
    assert holder("bearer  token-ann", keys) == "ann"
    for wrong in ("", "Bearer", "Bearer token-eve", "Basic token-bob", "token-bob", "Bearer ü"):
        assert holder(wrong, keys) is None
    # The digest is no token.
    assert holder(f"Bearer {keys['bob']}", keys) is None


@pytest.mark.parametrize(
    "text", ["ann", "ann 123", f"a b {'0' * 64}", f"a {'0' * 64}\na {'1' * 64}"]
)
def test_a_bad_file_of_keys_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"keys.txt, line \d"):
        read_keys(str(path))


def test_a_new_key_fits_the_file(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "deployments.keys", "carol"],
        capture_output=True,
        text=True,
        check=True,
    )
    path = tmp_path / "keys.txt"
    path.write_text(made.stdout)
    assert holder(f"Bearer {made.stderr.split()[-1]}", read_keys(str(path))) == "carol"
    bad = subprocess.run([sys.executable, "-m", "deployments.keys", "a b"], capture_output=True)
    assert bad.returncode != 0


async def test_without_a_key_there_is_nothing_but_probes(keys_file: str) -> None:
    upscaler = FakeUpscaler()
    async with client(upscaler, access=Access(keys_file=keys_file)) as http:
        for headers in ({}, bearer("wrong")):
            response = await send(http, headers=headers)
            problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
            for path in ("models", "jobs/a", "jobs/a/result", "jobs/a/events"):
                problem(await http.get(f"/v1/{path}", headers=headers), 401, "unauthorized")
        assert not upscaler.calls
        for path in ("/livez", "/readyz", "/docs", "/openapi.json"):
            assert (await http.get(path)).status_code == 200
        assert (await send(http, headers=bearer("token-ann"))).status_code == 200


def test_a_service_without_keys_warns_at_its_start(
    keys_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    Gate().change(Access(keys_file=keys_file))
    assert not caplog.records
    Gate().change(Access())
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("no keys_file is configured: anyone")


def test_a_gate_is_shut_until_it_knows_whom_to_admit() -> None:
    with pytest.raises(Problem, match="Authorization"):
        Gate().identify(Request({"type": "http", "headers": []}))


def test_keys_are_those_of_the_file_as_it_is(
    keys_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = KeyFile(keys_file, look_every_s=0)
    old = file.keys()
    assert set(old) == {"ann", "bob"}
    # As Kubernetes does, and most editors: another file under the same name.
    new = Path(f"{keys_file}.new")
    new.write_text(f"ann {'1' * 64}\ncarol {'2' * 64}\n")
    new.rename(keys_file)
    assert file.keys() == {"ann": "1" * 64, "carol": "2" * 64}
    Path(keys_file).write_text("ann\n")
    assert set(file.keys()) == set(file.keys()) == {"ann", "carol"}
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert "the old keys stand" in record.getMessage()
    Path(keys_file).unlink()
    assert set(file.keys()) == {"ann", "carol"}


def test_a_file_of_keys_that_cannot_be_read_for_a_moment_is_read_again(
    keys_file: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = KeyFile(keys_file, look_every_s=0)
    readable = False

    def read(path: str) -> dict[str, str]:
        # File modes would not stop a test that runs as root.
        if not readable:
            raise PermissionError(f"not yours: {path}")
        return read_keys(path)

    def complaints() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]

    monkeypatch.setattr("deployments.keys.read_keys", read)
    new = Path(f"{keys_file}.new")
    new.write_text(f"carol {'2' * 64}\n")
    new.rename(keys_file)
    assert set(file.keys()) == set(file.keys()) == {"ann", "bob"}
    readable = True
    assert set(file.keys()) == {"carol"}
    (complaint,) = complaints()
    assert "the old keys stand: not yours" in complaint
    # Once for each time that it is out of reach.
    new.write_text(f"dan {'3' * 64}\n")
    Path(keys_file).unlink()
    assert set(file.keys()) == set(file.keys()) == {"carol"}
    assert len(complaints()) == 2
    new.rename(keys_file)
    assert set(file.keys()) == {"dan"}


async def test_a_job_is_its_key_holders(keys_file: str) -> None:
    async with client(FakeUpscaler(), access=Access(keys_file=keys_file)) as http:
        ann, bob = bearer("token-ann"), bearer("token-bob")
        made = await send(http, headers={**ann, "Prefer": "respond-async"})
        job = made.headers["location"]
        assert (await http.get(job, headers=ann)).status_code == 200
        for path in ("", "/result", "/events"):
            problem(await http.get(job + path, headers=bob), 404, "job_not_found")
        problem(await http.delete(job, headers=bob), 404, "job_not_found")


async def test_a_keys_rate_is_its_own(keys_file: str) -> None:
    access = Access(keys_file=keys_file, requests_per_minute=2)
    async with client(FakeUpscaler(), access=access) as http:
        for _ in range(2):
            assert (await send(http, headers=bearer("token-ann"))).status_code == 200
        response = await send(http, headers=bearer("token-ann"))
        problem(response, 429, "too_many_requests")
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert response.headers["connection"] == "close"
        assert (await send(http, headers=bearer("token-bob"))).status_code == 200


async def test_pages_of_other_origins_need_leave() -> None:
    origin = {"Origin": "https://shop.example"}
    ask = {
        **origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "prefer",
    }
    async with client(FakeUpscaler()) as http:
        assert "access-control-allow-origin" not in (await send(http, headers=origin)).headers
        problem(await http.options("/v1/upscale", headers=ask), 405, "method_not_allowed")
    async with client(FakeUpscaler(), access=Access(cors_origins=["https://shop.example"])) as http:
        response = await send(http, headers=origin)
        assert response.headers["access-control-allow-origin"] == "https://shop.example"
        assert "X-Seed" in response.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in response.headers
        assert (await http.options("/v1/upscale", headers=ask)).status_code == 200
        other = await send(http, headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
