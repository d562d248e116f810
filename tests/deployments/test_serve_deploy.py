"""`ray start`, `serve deploy` and `serve status` by hand, on a cluster that asks for a token."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cluster
import httpx
import psutil
import pytest
import yaml
from checkpoints import write_checkpoint
from marks import CLUSTER
from pictures import photo

pytestmark = [
    *CLUSTER,
    pytest.mark.skipif(
        " " in sys.executable,
        reason="in a folder with a space in its name Ray's client server does not start, and `ray "
        "start --block` ends with it",
    ),
]

BIN = Path(sys.executable).parent
START_S = 180.0
API = "/api/serve/applications/"


@dataclass(frozen=True)
class Head:
    """A head node, started as an operator would."""

    home: Path
    dashboard: str
    environment: dict[str, str]

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Ray's in this node's environment."""
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def status(self) -> dict[str, Any]:
        """Return what `serve status` says of the application."""
        said = self.run("serve", "status", "--address", self.dashboard)
        assert said.returncode == 0, said.stderr
        applications: dict[str, dict[str, Any]] = yaml.safe_load(said.stdout)["applications"]
        return applications[cluster.APP]

    def details(self) -> dict[str, Any]:
        """Return what the dashboard says of the application, in a hundredth of the time."""
        token = {"Authorization": f"Bearer {(self.home / '.ray' / 'auth_token').read_text()}"}
        said = httpx.get(f"{self.dashboard}{API}", headers=token, timeout=30).raise_for_status()
        found: dict[str, Any] = said.json()["applications"].get(cluster.APP, {"status": "ABSENT"})
        return found

    def deploy(self, config: dict[str, Any]) -> None:
        """Deploy a configuration by the command, and wait until it says that all is well."""
        file = self.home / "serve.yaml"
        file.write_text(yaml.safe_dump(config))
        said = self.run("serve", "deploy", str(file), "--address", self.dashboard)
        assert said.returncode == 0, said.stderr
        deadline_s = time.monotonic() + START_S
        while (status := self.details())["status"] != "RUNNING":
            assert status["status"] != "DEPLOY_FAILED", status
            assert time.monotonic() < deadline_s, status
            time.sleep(0.5)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    model = write_checkpoint(tmp_path_factory.mktemp("model"))
    return cluster.configured({"model": str(model), "threads": 1}, {})


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    # Ray's sockets lie in there, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="ns", dir="/tmp") as folder:
        home = Path(folder)
        own = {"HOME": folder, "RAY_AUTH_MODE": "token", "RAY_TMPDIR": folder}
        gone = {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
        inherited = {key: value for key, value in os.environ.items() if key not in gone}
        port, dashboard, client, agent = free_ports(4)
        made = Head(home, f"http://127.0.0.1:{dashboard}", inherited | cluster.ENVIRONMENT | own)
        generated = made.run("ray", "get-auth-token", "--generate")
        assert generated.returncode == 0, generated.stderr
        assert (home / ".ray" / "auth_token").read_text() == generated.stdout.strip()
        process = subprocess.Popen(
            [
                *(str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2"),
                *("--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}/ray"),
                *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
                *(f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"),
            ],
            env=made.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_for(made.dashboard, process)
            yield made
        finally:
            stop(process)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Return once a server answers, be it with a refusal."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with suppress(urllib.error.URLError, ConnectionError):
            try:
                urllib.request.urlopen(f"{url}/api/version", timeout=5).close()
            except urllib.error.HTTPError:
                return
            return
        time.sleep(0.5)
    raise TimeoutError(f"{url} does not answer; ray start: {process.poll()}")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End this cluster's processes and no others, as `ray stop` would."""
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)
    for member in family[1:]:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.kill()
    process.wait()


def replicas(head: Head) -> list[dict[str, Any]]:
    """Those of the Upscaler, the ones that start or stop included."""
    found: list[dict[str, Any]] = head.details()["deployments"]["Upscaler"]["replicas"]
    return found


def test_it_deploys_and_serves_and_can_be_changed(head: Head, config: dict[str, Any]) -> None:
    head.deploy(config)
    url = f"http://127.0.0.1:{config['http_options']['port']}"
    with httpx.Client(base_url=url, timeout=60) as http:
        assert http.get("/readyz").status_code == 200
        fields = {"num_inference_steps": "2"}
        answer = http.post("/v1/upscale", files={"image": photo(16, 16)}, data=fields)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-consistency-exact"] == "?1"
        settings = cluster.deployment_of(config, "Ingress")["user_config"]
        # Forward, and back to what was: a limit, and the number of workers by hand.
        for most, number in ((300, 2), (2**24, 1)):
            settings["limits"]["max_body_bytes"] = most
            cluster.deployment_of(config, "Upscaler")["num_replicas"] = number
            head.deploy(config)
            deadline_s = time.monotonic() + START_S
            while not (
                http.get("/v1/models").json()["models"][0]["limits"]["max_body_bytes"] == most
                and [replica["state"] for replica in replicas(head)] == ["RUNNING"] * number
            ):
                assert time.monotonic() < deadline_s
                time.sleep(0.5)
    assert head.status()["deployments"]["Upscaler"]["replica_states"] == {"RUNNING": 1}
    said = head.run("serve", "config", "--address", head.dashboard)
    assert yaml.safe_load(said.stdout)["name"] == cluster.APP


def test_without_the_token_nobody_deploys_and_clients_need_none(
    head: Head, config: dict[str, Any], tmp_path: Path
) -> None:
    api = f"{head.dashboard}{API}"
    assert httpx.get(api).status_code == 401
    assert httpx.get(api, headers={"Authorization": "Bearer wrong"}).status_code == 403
    token = (head.home / ".ray" / "auth_token").read_text()
    known = httpx.get(api, headers={"Authorization": f"Bearer {token}"})
    assert json.loads(known.content)["applications"]
    file = head.home / "serve.yaml"
    for other in ({"RAY_AUTH_TOKEN": "wrong"}, {"RAY_AUTH_MODE": "disabled"}):
        said = head.run("serve", "deploy", str(file), "--address", head.dashboard, **other)
        assert said.returncode != 0
    assert head.status()["status"] == "RUNNING"
    port = config["http_options"]["port"]
    assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
