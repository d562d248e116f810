"""Both YAML files against Serve's own schema, key by key: Serve drops unknown keys in silence."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError
from ray.runtime_env import RuntimeEnv
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from deployments.app import AppArgs, build_app

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
    assert deployments(config)["Jobs"]["num_replicas"] == 1
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
