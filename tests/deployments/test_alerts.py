"""The alert rules as they are in production, on series that promtool makes up: every threshold."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from prometheus_server import PROMTOOL

import deployments.monitoring
from deployments.monitoring.alerts import Thresholds, alerts, rules

FOLDER = Path(deployments.monitoring.__file__).parent
RULES = FOLDER / "alerts.yaml"
SERVED = Path(__file__).parents[2] / "serve_config.yaml"
RUNBOOK = Path(__file__).parents[2] / "docs" / "operations.md"
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool on this machine's PATH")


def test_the_file_is_what_the_code_gives() -> None:
    assert RULES.read_text() == rules(alerts()), "run `python -m deployments.monitoring`"


def test_each_has_its_section_in_the_runbook() -> None:
    headings = re.findall(r"^### (Nullscale\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert headings == [alert.name for alert in alerts()]


def promtool(*arguments: str | Path) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    promtool("check", "rules", RULES)
    promtool("check", "config", FOLDER / "prometheus.yml")


def ours(name: str, **labels: str) -> str:
    return series(f"ray_nullscale_{name}", application="nullscale", **labels)


def series(name: str, **labels: str) -> str:
    matchers = [f'{label}="{value}"' for label, value in labels.items()]
    return f"{name}{{{','.join(matchers)}}}"


def requests(code: str, status: int) -> str:
    return ours("http_requests_total", route="/v1/upscale", code=code, status=str(status))


GOOD = requests("ok", 200)
UPSCALER = {"application": "nullscale", "deployment": "Upscaler"}
STATUS = series("ray_serve_deployment_status", **UPSCALER)
CHECKS = series("ray_serve_health_check_failures_total", **UPSCALER)
REFUSED = ours("refused_total", code="overloaded")
RETRIES, SPLITS = ours("retries_total"), ours("out_of_memory_total", phase="decode")
AGE, LIMIT = (ours(f"engine_heartbeat_{what}_seconds", replica="a") for what in ("age", "limit"))
BROKEN = ours("pictures_total", consistency="broken")
WORKER = ours("build_info", replica="a")
WAIT = ours("predicted_wait_seconds", replica="a")
PROXY = series("ray_serve_proxy_status", node_id="a")


def slow(quick: int) -> dict[str, str]:
    """So many of a hundred pictures take less than two minutes, the others less than three."""
    counts = {"120": quick, "180": 100, "+Inf": 100}
    labels = {"route": "/v1/upscale", "status": "200"}
    return {
        ours("http_request_seconds_bucket", **labels, le=le): f"0+{count}x30"
        for le, count in counts.items()
    }


@dataclass(frozen=True, slots=True)
class Case:
    """Series in promtool's notation, a value a minute, and whether an alert fires at the end."""

    alert: str
    fires: bool
    minutes: int
    values: dict[str, str]

    def __str__(self) -> str:
        return f"{self.alert}-{self.fires}-{len(self.values)}-{self.minutes}"


CASES = [
    Case("NothingScraped", False, 4, {}),
    Case("NothingScraped", True, 6, {}),
    Case("NothingScraped", False, 30, {series("up", job="ray"): "0x30"}),
    Case("TargetDown", False, 30, {series("up", job="ray"): "1x30"}),
    Case("TargetDown", False, 3, {series("up", job="ray"): "1x1 0x30"}),
    Case("TargetDown", True, 5, {series("up", job="ray"): "1x1 0x30"}),
    Case("ProxyAbsent", False, 9, {PROXY: "2x30"}),
    Case("ProxyAbsent", True, 9, {PROXY: "3x30"}),
    Case("ProxyAbsent", True, 9, {}),
    Case("IngressAbsent", False, 9, {ours("http_in_flight"): "0x30"}),
    Case("IngressAbsent", True, 9, {}),
    Case("NoWorker", False, 9, {WORKER: "1x30", STATUS: "2x30"}),
    Case("NoWorker", True, 9, {STATUS: "2x30"}),
    Case("NoWorker", False, 2, {STATUS: "2x30"}),
    # Scaled to zero on purpose.
    Case("NoWorker", False, 9, {STATUS: "6x30"}),
    Case("NoWorker", True, 9, {}),
    Case("Failures", False, 20, {GOOD: "0+99x30", requests("internal_error", 500): "0+1x30"}),
    Case("Failures", True, 20, {GOOD: "0+97x30", requests("internal_error", 500): "0+3x30"}),
    Case("Failures", True, 20, {GOOD: "0+97x30", requests("not_ready", 503): "0+3x30"}),
    Case("Failures", False, 20, {GOOD: "0+50x30", requests("overloaded", 503): "0+50x30"}),
    # By configuration, before an upgrade.
    Case("Failures", False, 20, {GOOD: "0+50x30", requests("jobs_paused", 503): "0+50x30"}),
    Case(
        "Failures",
        True,
        20,
        {GOOD: "0+97x30", ours("jobs_total", state="failed", code="inference_failed"): "0+3x30"},
    ),
    Case("Failures", False, 20, {GOOD: "5x30", requests("internal_error", 500): "5x30"}),
    Case("Failures", False, 20, {}),
    Case(
        "Overloaded",
        False,
        20,
        {GOOD: "0+100x30", REFUSED: "0+4x30"},
    ),
    Case(
        "Overloaded",
        True,
        20,
        {GOOD: "0+100x30", REFUSED: "0+6x30"},
    ),
    Case("Overloaded", False, 20, {GOOD: "0+9x30", ours("refused_total", code="x"): "0+9x30"}),
    Case("LongWait", False, 20, {WAIT: "29x30"}),
    Case("LongWait", True, 20, {WAIT: "31x30"}),
    Case("LongWait", False, 4, {WAIT: "31x30"}),
    Case(
        "Slow",
        False,
        30,
        slow(96),
    ),
    Case(
        "Slow",
        True,
        30,
        slow(94),
    ),
    Case("Slow", False, 30, {}),
    Case("Late", False, 20, {GOOD: "0+99x30", requests("deadline_exceeded", 504): "0+1x30"}),
    Case("Late", True, 20, {GOOD: "0+96x30", requests("deadline_exceeded", 504): "0+4x30"}),
    # The first is seen although its counter appears with it; one of long ago is not.
    Case("WorkersLost", True, 20, {RETRIES: "_x18 1x30"}),
    Case("WorkersLost", True, 40, {RETRIES: "1x30 2x30"}),
    Case("WorkersLost", False, 40, {RETRIES: "1x60"}),
    Case("WorkersLost", True, 20, {CHECKS: "_x18 1x30"}),
    Case("WorkersLost", False, 40, {}),
    Case("EngineHangs", False, 5, {AGE: "59x9", LIMIT: "120x9"}),
    Case("EngineHangs", True, 5, {AGE: "61x9", LIMIT: "120x9"}),
    Case("OutOfMemory", False, 10, {SPLITS: "_x5 3x30"}),
    Case("OutOfMemory", True, 10, {SPLITS: "_x5 4x30"}),
    Case("OutOfMemory", False, 90, {SPLITS: "9x99"}),
    Case("Inconsistent", True, 10, {BROKEN: "_x8 1x30"}),
    Case("Inconsistent", False, 90, {BROKEN: "1x99"}),
    Case("Inconsistent", False, 10, {ours("pictures_total", consistency="exact"): "0+9x99"}),
]


def firing(case: Case) -> str:
    return series("ALERTS", alertname=f"Nullscale{case.alert}", alertstate="firing")


@needs_promtool
def test_each_threshold(tmp_path: Path) -> None:
    tests = [
        {
            "name": str(case),
            "interval": "1m",
            "input_series": [{"series": k, "values": v} for k, v in case.values.items()],
            "promql_expr_test": [
                {
                    "expr": f"count({firing(case)}) or vector(0)",
                    "eval_time": f"{case.minutes}m",
                    "exp_samples": [{"labels": "{}", "value": int(case.fires)}],
                }
            ],
        }
        for case in CASES
    ]
    file = tmp_path / "tests.yaml"
    contents = {"rule_files": [str(RULES)], "evaluation_interval": "30s", "tests": tests}
    file.write_text(json.dumps(contents))
    promtool("test", "rules", file)


def test_each_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    names = {alert.name.removeprefix("Nullscale") for alert in alerts()}
    for fires in (True, False):
        assert {case.alert for case in CASES if case.fires is fires} == names


def test_the_wait_that_is_told_is_the_one_that_growing_does_not_cure() -> None:
    (application,) = yaml.safe_load(SERVED.read_text())["applications"]
    policy = application["autoscaling_policy"]["policy_kwargs"]
    assert Thresholds().wait_s == policy["target_wait_s"] + policy["recover_s"]


def test_thresholds_are_those_of_the_rules() -> None:
    stricter = Thresholds(wait_s=7.5)
    (waits,) = [a for a in alerts(limits=stricter) if a.name == "NullscaleLongWait"]
    assert waits.expr.endswith("> 7.5")
