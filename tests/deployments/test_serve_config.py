"""Both YAML files against Serve's own schema, key by key: Serve drops unknown keys in silence."""

import copy
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import ServeDeploySchema

from deployments import check_config
from deployments.app import AppArgs, build_app
from deployments.autoscaling import ByWork
from deployments.check_config import findings, unknown_keys
from deployments.limits import IngressSettings
from deployments.upscaler import UpscalerSettings
from nullscale.maths.params import UpscaleParams
from nullscale.simulation.devices import DEVICES
from nullscale.simulation.simulated import SimulatedModel
from sr_engine.plan import plan_stages
from sr_engine.request import UpscaleRequest

# To be replaced by environment variables, which Ray 2.60 does not read yet.
pytestmark = pytest.mark.filterwarnings("ignore:The `metrics_interval_s` field:DeprecationWarning")

ROOT = Path(__file__).parents[2]
FILES = ("serve_config.yaml", "serve_config.cpu.yaml")


def load(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return config


def deployments(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (application,) = config["applications"]
    return {deployment["name"]: deployment for deployment in application["deployments"]}


@pytest.mark.parametrize("name", FILES)
def test_every_key_is_known(name: str) -> None:
    assert list(unknown_keys(load(name), ServeDeploySchema)) == []


@pytest.mark.parametrize(
    ("where", "typo"),
    [
        ((), "proxy_locations"),
        (("http_options",), "hosts"),
        (("logging_config",), "level"),
        (("applications", 0), "route"),
        (("applications", 0, "args"), "models"),
        (("applications", 0, "args", "jobs"), "keep"),
        (("applications", 0, "deployments", 0, "user_config"), "take_job"),
        (("applications", 0, "deployments", 0, "user_config", "limits"), "max_pixels"),
        (("applications", 0, "deployments", 2, "user_config"), "max_activ"),
        (("applications", 0, "deployments", 2), "max_ongoing_request"),
        (("applications", 0, "deployments", 2, "autoscaling_config"), "max_replica"),
        (("applications", 0, "deployments", 2, "ray_actor_options"), "num_gpu"),
        (("applications", 0, "deployments", 2, "ray_actor_options", "runtime_env"), "env_var"),
    ],
)
def test_a_typo_is_found(where: tuple[str | int, ...], typo: str) -> None:
    config: Any = copy.deepcopy(load("serve_config.yaml"))
    config["applications"][0]["deployments"][2]["ray_actor_options"]["runtime_env"] = {}
    node = config
    for step in where:
        node = node[step]
    node[typo] = 1
    (found,) = unknown_keys(config, ServeDeploySchema)
    assert found.endswith(typo)


@pytest.mark.parametrize("name", FILES)
def test_every_value_is_valid(name: str) -> None:
    config = load(name)
    ServeDeploySchema.model_validate(config)
    for deployment in deployments(config).values():
        AutoscalingConfig.model_validate(deployment.get("autoscaling_config", {}))
    AppArgs.model_validate(config["applications"][0]["args"])


@pytest.mark.parametrize("name", FILES)
def test_every_setting_of_a_running_replica_stands_in_one_place(name: str) -> None:
    args = set(AppArgs.model_fields)
    assert not args & {*IngressSettings.model_fields, *UpscalerSettings.model_fields}
    for deployment in ("Ingress", "Upscaler"):
        assert deployments(load(name))[deployment]["user_config"]
    assert "user_config" not in deployments(load(name))["Jobs"]


def test_production_has_nothing_to_mend() -> None:
    assert findings(load("serve_config.yaml")) == []


def test_a_laptops_upgrade_does_not_wait_for_long_pictures() -> None:
    # On purpose, so that Ctrl-C is quick; and that is all.
    found = findings(load("serve_config.cpu.yaml"))
    assert [text.split(" must ")[0] for text in found] == [
        "nullscale: Ingress: graceful_shutdown_timeout_s",
        "nullscale: Upscaler: graceful_shutdown_timeout_s",
    ]


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("Ingress.graceful_shutdown_timeout_s", 600, "Ingress: graceful_shutdown_timeout_s must"),
        ("Upscaler.graceful_shutdown_timeout_s", 600, "Upscaler: graceful_shutdown_timeout_s must"),
        ("args.heartbeat_limit_s", 595, "heartbeat_limit_s and health_check_period_s"),
        ("Upscaler.health_check_period_s", 490, "heartbeat_limit_s and health_check_period_s"),
        ("Ingress.user_config.limits.max_wait_s", 601, "limits.max_wait_s must"),
        ("Ingress.user_config.limits.body_timeout_s", 600, "limits.body_timeout_s must"),
        ("args.jobs.timeout_s", 599, "jobs.timeout_s must"),
        ("http_options.request_timeout_s", 60, "http_options.request_timeout_s cuts"),
        ("Upscaler.max_ongoing_requests", 8, "Upscaler: max_ongoing_requests must"),
        ("Upscaler.user_config.max_active", 3, "Upscaler: max_ongoing_requests must"),
        ("Upscaler.max_queued_requests", -1, "Upscaler: max_queued_requests must be set"),
        ("Upscaler.max_queued_requests", 40, "Upscaler: max_queued_requests, times"),
        ("Ingress.max_ongoing_requests", 272, "Ingress: max_ongoing_requests must"),
        ("args.jobs.max_running", 256, "jobs.max_running must"),
        ("Ingress.user_config.limits.max_body_bytes", 2**25 + 1, "limits.max_body_bytes is above"),
        ("Ingress.user_config.limits.max_bodies_bytes", 2**24, "limits.max_bodies_bytes must"),
        ("args.jobs.max_bytes", 2**27, "jobs.max_bytes has no room"),
        ("Jobs.autoscaling_config.max_replicas", 2, "Jobs: its replicas must"),
        ("policy.shrink_delay_s", 60, "autoscaling_policy: shrink_delay_s must"),
        ("policy.sleep_delay_s", 64, "autoscaling_policy: sleep_delay_s must"),
        ("policy.target_wait_s", 61, "autoscaling_policy: target_wait_s must"),
        ("policy.recover_s", 61, "autoscaling_policy: start_s and recover_s"),
        ("policy.utilisation", 2, "autoscaling_policy: utilisation must"),
        ("policy.utilization", 0.8, "autoscaling_policy: "),
        ("Upscaler.autoscaling_config.upscale_delay_s", 5, "Upscaler: upscale_delay_s and"),
        ("Upscaler.autoscaling_config.min_replicas", 0, "cold_start_s must be set"),
        ("args.cold_start_s", 60, "cold_start_s must be set"),
        ("Jobs.autoscaling_config", None, "Jobs: without an autoscaling_config"),
        ("Ingress.autoscaling_config.look_back_period_s", 30, "Ingress: metrics_interval_s must"),
        ("Jobs.max_surge_percent", 100, "Jobs: max_surge_percent must"),
        ("Upscaler.ray_actor_options.num_gpus", 0.5, "Upscaler: num_gpus must"),
        ("args.model", None, "args: model: "),
        ("Upscaler.user_config.max_active", 0, "Upscaler.user_config: max_active: "),
        ("Ingress.user_config", None, "Ingress.user_config: empty"),
        ("Upscaler.user_config", None, "Upscaler.user_config: empty"),
        ("Ingress.user_config.take_jobs", [], "Ingress.user_config: take_jobs: "),
    ],
)
def test_what_does_not_agree_is_said(where: str, value: object, said: str) -> None:
    config = load("serve_config.yaml")
    first, *steps = where.split(".")
    application = config["applications"][0]
    known = {
        "args": application["args"],
        "policy": application["autoscaling_policy"]["policy_kwargs"],
    }
    node: Any = {**known, **config, **deployments(config)}[first]
    for step in steps[:-1]:
        node = node[step]
    node[steps[-1]] = value
    (found,) = findings(config)
    assert found.startswith(f"nullscale: {said}")


def test_without_a_user_config_the_defaults_are_checked() -> None:
    config = load("serve_config.yaml")
    for name in ("Ingress", "Upscaler"):
        del deployments(config)[name]["user_config"]
    assert findings(config) == []


@pytest.mark.parametrize(
    "name", ["deployments.autoscaling:ByWork", "deployments.autoscaling.ByWork"]
)
def test_the_policy_is_known_by_each_name_that_serve_takes(name: str) -> None:
    config = load("serve_config.yaml")
    policy = config["applications"][0]["autoscaling_policy"]
    policy["policy_function"] = name
    assert AutoscalingPolicy(**policy).get_policy() is ByWork
    assert findings(config) == []
    policy["policy_kwargs"]["utilisation"] = 2
    (found,) = findings(config)
    assert found.startswith("nullscale: autoscaling_policy: utilisation must")


def test_a_policy_that_is_not_known_is_said_to_be_unchecked() -> None:
    config = load("serve_config.yaml")
    policy = config["applications"][0]["autoscaling_policy"]
    policy["policy_function"] = "deployments.autoscaling:ByWerk"
    (found,) = findings(config)
    assert found.startswith("nullscale: autoscaling_policy: deployments.autoscaling:ByWerk is not")
    del config["applications"][0]["autoscaling_policy"]
    assert findings(config) == []


def test_targets_of_autoscaling_are_within_what_a_replica_takes() -> None:
    config = load("serve_config.yaml")
    for name in ("Ingress", "Upscaler"):
        part = deployments(config)[name]
        # Half a replica's places at most, whatever else decides.
        part["autoscaling_config"]["target_ongoing_requests"] = part["max_ongoing_requests"]
    assert [text.split(" must ")[0] for text in findings(config)] == [
        "nullscale: Ingress: target_ongoing_requests",
        "nullscale: Upscaler: target_ongoing_requests",
    ]


def test_a_deployment_that_is_not_there_is_missed() -> None:
    config = load("serve_config.yaml")
    del config["applications"][0]["deployments"][1]
    (found,) = findings(config)
    assert found.startswith("nullscale: Jobs: no such deployment")


def test_the_proxys_limit_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NULLSCALE_MAX_BODY_BYTES", str(2**24))
    (found,) = findings(load("serve_config.yaml"))
    assert found.startswith("nullscale: limits.max_body_bytes is above NULLSCALE_MAX_BODY_BYTES")


def test_the_command_says_so_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load("serve_config.yaml")
    deployments(config)["Upscaler"]["max_replica"] = 3
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    for file, status in ((tmp_path / "own.yaml", 1), (ROOT / "serve_config.yaml", 0)):
        monkeypatch.setattr(sys, "argv", ["check_config", str(file)])
        with pytest.raises(SystemExit) as exit_:
            check_config.main()
        assert exit_.value.code == status
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("[0].deployments[2].max_replica: nobody knows this key")


def test_production_uses_a_gpu_a_replica_and_grows() -> None:
    config = load("serve_config.yaml")
    args = AppArgs.model_validate(config["applications"][0]["args"])
    assert args.model == "stabilityai/stable-diffusion-3.5-medium"
    assert deployments(config)["Upscaler"]["ray_actor_options"]["num_gpus"] == 1
    for deployment in deployments(config).values():
        if deployment["name"] != "Jobs":
            # A new one starts before an old one stops.
            assert deployment["max_surge_percent"] > 0
            assert deployment["autoscaling_config"]["max_replicas"] > 1


def test_every_number_of_the_policy_stands_in_the_file() -> None:
    (application,) = load("serve_config.yaml")["applications"]
    policy = AutoscalingPolicy(**application["autoscaling_policy"])
    assert policy.get_policy() is ByWork
    assert asdict(ByWork(**policy.policy_kwargs).settings) == policy.policy_kwargs


def test_the_number_of_waiting_requests_is_no_limit_before_the_wait_is() -> None:
    config = load("serve_config.yaml")
    settings = ByWork(**config["applications"][0]["autoscaling_policy"]["policy_kwargs"]).settings
    request = UpscaleRequest(
        request_id="1",
        image=np.eye(256, dtype=np.uint8)[..., None].repeat(3, 2),
        params=UpscaleParams(),
    )
    name = "sd3.5-medium-h100"
    picture_s = DEVICES[name].plan_s(plan_stages(request, SimulatedModel(name).info))
    upscaler, ingress = deployments(config)["Upscaler"], deployments(config)["Ingress"]
    most = upscaler["autoscaling_config"]["max_replicas"]
    fewest = ingress["autoscaling_config"]["min_replicas"]
    within_target = most * settings.target_wait_s / picture_s
    assert upscaler["max_queued_requests"] * fewest > within_target


@pytest.mark.parametrize("typo", [{"target_wait": 10}, {"target_wait_s": 10, "utilization": 0.8}])
def test_a_typo_in_the_policys_arguments_is_an_error(typo: dict[str, float]) -> None:
    with pytest.raises(TypeError):
        ByWork(**typo)


def test_the_laptops_file_fits_two_cores_and_stays_on_loopback() -> None:
    config = load("serve_config.cpu.yaml")
    assert config["http_options"]["host"] == "127.0.0.1"
    assert config["applications"][0]["args"]["model"] == "bundled"
    options = [deployment["ray_actor_options"] for deployment in deployments(config).values()]
    assert sum(option["num_cpus"] for option in options) <= 2
    assert not any(option.get("num_gpus") for option in options)


def test_the_builders_argument_is_validated() -> None:
    # Serve reads the annotation; were it a string, it would hand over a plain dict.
    assert build_app.__annotations__["args"] is AppArgs
    for wrong in ({}, {"model": "bundled", "modle": 1}, {"model": "x", "jobs": {"pixels": 1}}):
        with pytest.raises(ValidationError):
            AppArgs.model_validate(wrong)
