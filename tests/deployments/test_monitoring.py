"""The dashboard and the alerts against a real Prometheus that scrapes a real cluster.

The tests run in this order: each makes something go wrong, the last two for good. Windows and
delays are shorter than in production, and otherwise the rules are the same.
"""

import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cluster
import httpx
import mixed_load
import pytest
import ray
from chaos import inject
from checkpoints import write_checkpoint
from marks import CLUSTER
from prometheus_server import PROMETHEUS, PROMTOOL, Prometheus, prometheus

import deployments.monitoring
from deployments.monitoring.alerts import Alert, Thresholds, alerts, rules

pytestmark = [
    *CLUSTER,
    pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus on this machine's PATH"),
]

PACE = 1 / 60
LIMITS = Thresholds(wait_s=0.5, slow_s=1.0)
ALERTS = alerts(limits=LIMITS, pace=PACE)
DATA_S = 12.0
ENVIRONMENT = {
    # Everything more often, or the alerts would be waited for in vain for ten seconds each.
    "RAY_metrics_report_interval_ms": "2000",
    "REPORTER_UPDATE_INTERVAL_MS": "2000",
    "RAY_SERVE_STATUS_GAUGE_REPORT_INTERVAL_S": "1",
}
DOCUMENTED = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
DASHBOARD = Path(deployments.monitoring.__file__).with_name("dashboard.json")
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in json.loads(DASHBOARD.read_text())["panels"]
    for target in panel.get("targets", [])
]
NEEDS_GPU = re.compile(r"ray_node_(?:gpus|gram)\w*")


@dataclass(frozen=True, slots=True)
class Running:
    """The service, the files of its model, and what ends it."""

    url: str
    model: Path
    end: ExitStack


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with prometheus(tmp_path_factory.mktemp("prometheus"), rules(ALERTS)) as server:
        yield server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, metrics: Prometheus) -> Iterator[Running]:
    """Two workers of a tiny model and one ingress, in Ray's own list of nodes."""
    model = write_checkpoint(tmp_path_factory.mktemp("model"))
    args = {
        "model": str(model),
        "threads": 1,
        "upscale_timeout_s": 60,
        "heartbeat_limit_s": 10,
        "limits": {"max_wait_s": 3, "max_body_bytes": 2**19},
    }
    with ExitStack() as stack:
        url = stack.enter_context(
            cluster.service(
                args,
                ingresses=1,
                import_path="faulty_app:build_app",
                environment=ENVIRONMENT,
                dashboard=True,
            )
        )
        nodes = cluster.session() / "prom_metrics_service_discovery.json"
        (metrics.targets / "ray.json").symlink_to(nodes)
        yield Running(url, model, stack)


def test_a_healthy_service_is_left_alone(metrics: Prometheus, service: Running) -> None:
    with mixed_load.clients(service.url, [mixed_load.good, mixed_load.bad]) as raised:
        time.sleep(DATA_S)
        # On a machine with other work, Ray's agents fall silent for a while.
        metrics.wait_until_none_fires()
        assert raised == []


def test_a_list_without_nodes_was_told(metrics: Prometheus, service: Running) -> None:
    # Prometheus was there before the cluster.
    assert metrics.fired("NullscaleNothingScraped")


def test_names_and_units_are_those_of_the_conventions(service: Running) -> None:
    (node,) = ray.nodes()
    text = httpx.get(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics").text
    # Ray's own labels are none of ours: WorkerId, SessionName and so on.
    text = re.sub(r"\b[A-Z]\w*=", lambda name: f"ray_{name[0].lower()}", text)
    ours = [line for line in text.splitlines() if "ray_nullscale_" in line]
    assert ours and PROMTOOL is not None
    told = subprocess.run(
        [PROMTOOL, "check", "metrics"],
        input="\n".join(ours) + "\n",
        capture_output=True,
        text=True,
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_too_much_work_is_told(metrics: Prometheus, service: Running) -> None:
    with mixed_load.clients(service.url, [mixed_load.heavy] * 24) as raised:
        metrics.wait_until_firing("NullscaleOverloaded", "NullscaleLongWait", "NullscaleSlow")
        assert raised == []


def test_missed_deadlines_are_told(metrics: Prometheus, service: Running) -> None:
    with mixed_load.clients(service.url, [mixed_load.quick, mixed_load.hurried]) as raised:
        metrics.wait_until_firing("NullscaleLate")
        assert raised == []


async def cause(alert: str, fault: str, metrics: Prometheus) -> None:
    """Inject a fault until the alert fires: one that meets no batch before the next is lost."""
    end_s = time.monotonic() + 120
    while alert not in metrics.firing():
        assert time.monotonic() < end_s, metrics.pending()
        await inject(fault)
        time.sleep(1)


async def test_faults_are_told(metrics: Prometheus, service: Running) -> None:
    with mixed_load.clients(service.url, [mixed_load.quick] * 2):
        await cause("NullscaleOutOfMemory", "out_of_memory_of_a_row", metrics)
        await cause("NullscaleInconsistent", "wrong", metrics)
        failing = await inject("failure")
        metrics.wait_until_firing("NullscaleFailures")
        while await inject("none") != failing:
            pass


async def test_an_engine_that_hangs_is_told(metrics: Prometheus, service: Running) -> None:
    with mixed_load.clients(service.url, [mixed_load.quick] * 2):
        await inject("hang")
        metrics.wait_until_firing("NullscaleEngineHangs", "NullscaleWorkersLost")


@pytest.mark.parametrize("query", QUERIES)
def test_every_panel_has_data(query: str, metrics: Prometheus, service: Running) -> None:
    query = query.replace("$application", cluster.APP).replace("$__rate_interval", "5m")
    # The worker that took the place of the one before may still be starting.
    end_s = time.monotonic() + 60
    while True:
        found = metrics.query(query)
        if NEEDS_GPU.search(query) or any(math.isfinite(sample.value) for sample in found):
            return
        assert time.monotonic() < end_s, (query, found)
        time.sleep(1)


def test_every_metric_is_in_the_documentation(service: Running) -> None:
    (node,) = ray.nodes()
    text = httpx.get(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics").text
    exported = set(re.findall(r"^# TYPE ray_(nullscale_\w+)", text, re.MULTILINE))
    assert exported == set(re.findall(r"^\| `(nullscale_\w+)`", DOCUMENTED, re.MULTILINE))


def test_what_a_gpu_has_is_called_so() -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    names = {name for query in QUERIES for name in NEEDS_GPU.findall(str(query.values[0]))}
    assert names and {name.removeprefix("ray_") for name in names} <= set(METRICS_GAUGES)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_everything_an_alert_reads_is_there(
    alert: Alert, metrics: Prometheus, service: Running
) -> None:
    series = re.findall(r"\b(?:ray_\w+|up)(?:\{.*?\})?", alert.expr)
    assert series
    assert [name for name in series if not metrics.ever(name)] == []


def test_a_service_without_workers_is_told(metrics: Prometheus, service: Running) -> None:
    shutil.rmtree(service.model)
    for process in cluster.processes(cluster.UPSCALER):
        process.kill()
    metrics.wait_until_firing("NullscaleNoWorker")


def test_a_cluster_that_is_gone_is_told(metrics: Prometheus, service: Running) -> None:
    service.end.close()
    metrics.wait_until_firing(
        "NullscaleTargetDown", "NullscaleProxyAbsent", "NullscaleIngressAbsent"
    )
