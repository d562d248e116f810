"""Both YAML files against Serve's own schema, key by key: Serve drops unknown keys in silence."""

import copy
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml
from pydantic import BaseModel, ValidationError
from ray.runtime_env import RuntimeEnv
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import ServeDeploySchema

from deployments.app import AppArgs, build_app
from deployments.autoscaling import ByWork
from sr_engine.devices import DEVICES
from sr_engine.plan import plan_stages
from sr_engine.request import UpscaleParams, UpscaleRequest
from sr_engine.simulated import SimulatedModel

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


def unknown_keys(value: object, annotation: object, path: str = "") -> Iterator[str]:
    """Paths of the keys in ``value`` that no pydantic model within ``annotation`` has."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_keys(item, annotation, f"{path}[{index}]")
        return
    models = list(models_in(annotation))
    if not isinstance(value, dict) or not models:
        return
    known = {name: field for model in models for name, field in model.model_fields.items()}
    for key, item in value.items():
        here = f"{path}.{key}" if path else key
        if key not in known:
            yield here
        elif key == "args":
            yield from unknown_keys(item, AppArgs, here)
        elif key == "runtime_env":
            yield from (f"{here}.{name}" for name in set(item) - RuntimeEnv.known_fields)
        else:
            yield from unknown_keys(item, known[key].annotation, here)


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


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
        (("applications", 0, "args", "limits"), "max_pixels"),
        (("applications", 0, "args", "jobs"), "keep"),
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
def test_slots_and_deadlines_fit(name: str) -> None:
    config = load(name)
    args = AppArgs.model_validate(config["applications"][0]["args"])
    upscaler, ingress = deployments(config)["Upscaler"], deployments(config)["Ingress"]
    assert upscaler["max_ongoing_requests"] > args.max_active
    assert upscaler["max_queued_requests"] > 0
    assert ingress["max_ongoing_requests"] > upscaler["max_ongoing_requests"]
    assert args.jobs.max_running < upscaler["max_queued_requests"]
    jobs = deployments(config)["Jobs"]
    assert (
        jobs.get("autoscaling_config", {"max_replicas": jobs.get("num_replicas")})["max_replicas"]
        == 1
    )
    # It would cut event streams, and leave the GPU busy.
    assert "request_timeout_s" not in config["http_options"]


def test_production_uses_whole_gpus_and_drains() -> None:
    config = load("serve_config.yaml")
    args = AppArgs.model_validate(config["applications"][0]["args"])
    assert args.model == "stabilityai/stable-diffusion-3.5-medium"
    assert deployments(config)["Upscaler"]["ray_actor_options"]["num_gpus"] == 1
    for deployment in deployments(config).values():
        if deployment["name"] != "Jobs":
            assert deployment["graceful_shutdown_timeout_s"] > args.upscale_timeout_s
            assert deployment["autoscaling_config"]["max_replicas"] > 1


def test_autoscaling_settings_agree() -> None:
    config = load("serve_config.yaml")
    (application,) = config["applications"]
    args = AppArgs.model_validate(application["args"])
    policy = AutoscalingPolicy(**application["autoscaling_policy"])
    assert policy.get_policy() is ByWork
    given = policy.policy_kwargs
    settings = ByWork(**given).settings
    assert asdict(settings) == given, "every number stands in the file, with its reason"
    assert settings.shrink_delay_s > settings.start_s
    assert settings.sleep_delay_s > settings.shrink_delay_s
    # It grows long before clients are refused, and what they wait for a start is no refusal.
    assert settings.target_wait_s < args.limits.max_wait_s / 2
    assert settings.start_s + settings.recover_s < args.limits.max_wait_s

    scaling = {name: each["autoscaling_config"] for name, each in deployments(config).items()}
    assert set(scaling) == {"Ingress", "Jobs", "Upscaler"}, "without one, nobody hears of it"
    for each in scaling.values():
        assert each["min_replicas"] <= each["max_replicas"]
        assert each["metrics_interval_s"] <= 1 and each["look_back_period_s"] <= 2
    upscaler = scaling["Upscaler"]
    assert upscaler["upscale_delay_s"] == upscaler["downscale_delay_s"] == 0
    assert (args.cold_start_s is not None) == (upscaler["min_replicas"] == 0)

    # The number of waiting requests is no limit before the wait is.
    plan = plan_stages(
        UpscaleRequest(
            request_id="1",
            image=np.eye(256, dtype=np.uint8)[..., None].repeat(3, 2),
            params=UpscaleParams(),
        ),
        SimulatedModel("sd3.5-medium-h100").info,
    )
    picture_s = DEVICES["sd3.5-medium-h100"].plan_s(plan)
    together = upscaler["max_replicas"] * settings.target_wait_s / picture_s
    each = together / scaling["Ingress"]["min_replicas"]
    assert deployments(config)["Upscaler"]["max_queued_requests"] > each


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
    for wrong in ({}, {"model": "bundled", "modle": 1}, {"model": "x", "limits": {"pixels": 1}}):
        with pytest.raises(ValidationError):
            AppArgs.model_validate(wrong)
