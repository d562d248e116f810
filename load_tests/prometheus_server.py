"""A Prometheus of Debian's on this machine, that scrapes a cluster started for a test."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

import deployments.monitoring

CONFIG = Path(deployments.monitoring.__file__).with_name("prometheus.yml")
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
READY_S = 30
STEP_S = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of a query's result."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """A running server; ``targets`` is the folder in which it looks for lists of nodes."""

    def __init__(self, http: httpx.Client, targets: Path) -> None:
        self._http = http
        self.targets = targets

    def query(self, query: str) -> list[Sample]:
        """Return a query's result at this moment, which is an instant vector."""
        data = self._get("query", query=query)
        assert data["resultType"] == "vector", query
        return [Sample(found["metric"], float(found["value"][1])) for found in data["result"]]

    def ever(self, series: str) -> bool:
        """Say whether a selector has ever selected anything."""
        return bool(self._get("series", **{"match[]": series}))

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        found = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    def wait_until_firing(self, *names: str, timeout_s: float = 120) -> None:
        """Return when each of these alerts has fired since the call.

        Raises:
            TimeoutError: some have not.
        """
        left, end_s = set(names), time.monotonic() + timeout_s
        while left := left - self.firing():
            if time.monotonic() > end_s:
                raise TimeoutError(f"{sorted(left)} did not fire; {self.pending()}")
            time.sleep(STEP_S)

    def wait_until_none_fires(self, timeout_s: float = 120) -> None:
        """Return when no alert fires.

        Raises:
            TimeoutError: some still do.
        """
        end_s = time.monotonic() + timeout_s
        while firing := self.firing():
            if time.monotonic() > end_s:
                raise TimeoutError(f"{sorted(firing)} fire; {self.pending()}")
            time.sleep(STEP_S)

    def fired(self, name: str) -> bool:
        """Say whether an alert has fired in the last ten minutes."""
        series = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
        return bool(self.query(f"max_over_time({series}[10m])"))

    def pending(self) -> dict[str, str]:
        """Return each alert's state, and the error of its rule if there was one."""
        (group,) = self._get("rules")["groups"]
        return {
            rule["name"]: f"{rule['state']} {rule.get('lastError', '')}".strip()
            for rule in group["rules"]
        }

    def _get(self, what: str, **parameters: str) -> Any:
        answer = self._http.get(f"/api/v1/{what}", params=parameters)
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]


@contextmanager
def prometheus(folder: Path, rules: str) -> Iterator[Prometheus]:
    """Start a Prometheus with these rules and the project's configuration, made faster."""
    assert PROMETHEUS is not None
    targets = folder / "targets"
    targets.mkdir()
    (folder / "rules.yaml").write_text(rules)
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    config["rule_files"] = ["rules.yaml"]
    (job,) = config["scrape_configs"]
    job["file_sd_configs"] = [{"files": [f"{targets}/*.json"], "refresh_interval": "1s"}]
    (folder / "prometheus.yml").write_text(json.dumps(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        PROMETHEUS,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://{address}", timeout=30) as http:
            _wait_until_ready(http, process)
            yield Prometheus(http, targets)
    finally:
        process.terminate()
        process.wait(READY_S)


def _wait_until_ready(http: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + READY_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            if http.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(STEP_S)
    raise RuntimeError("Prometheus does not start")
