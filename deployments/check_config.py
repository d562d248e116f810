"""`python -m deployments.check_config FILE`: what Serve would take in silence, said before.

Serve drops keys that it does not know, and checks no two settings against each other.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from ray.runtime_env import RuntimeEnv
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from deployments.agreement import Whole, disagreements
from deployments.app import AppArgs
from deployments.limits import IngressSettings
from deployments.proxy import max_body_bytes
from deployments.settings import reason_of
from deployments.upscaler import UpscalerSettings

USER_CONFIGS: Mapping[str, type[BaseModel]] = {
    "Ingress": IngressSettings,
    "Upscaler": UpscalerSettings,
}
DEPLOYMENTS = ("Ingress", "Jobs", "Upscaler")


def findings(config: Mapping[str, Any]) -> list[str]:
    """Return what is wrong: keys nobody knows, values that are refused, settings that disagree.

    Settings are held against each other only where each of them is valid.
    """
    unknown = [f"{path}: nobody knows this key" for path in unknown_keys(config, ServeDeploySchema)]
    try:
        ServeDeploySchema.model_validate(config)
    except ValidationError as err:
        return [*unknown, reason_of(err)]
    found = list(unknown)
    for application in config["applications"]:
        found += [f"{application['name']}: {text}" for text in _of_application(application, config)]
    return found


def unknown_keys(value: object, annotation: object, path: str = "") -> Iterator[str]:
    """Paths of the keys in ``value`` that no pydantic model within ``annotation`` has."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_keys(item, annotation, f"{path}[{index}]")
        return
    models = list(_models_in(annotation))
    if not isinstance(value, dict) or not models:
        return
    known = {name: field for model in models for name, field in model.model_fields.items()}
    for key, item in value.items():
        here = f"{path}.{key}" if path else str(key)
        if key not in known:
            yield here
        elif key == "args":
            yield from unknown_keys(item, AppArgs, here)
        elif key == "user_config":
            yield from unknown_keys(item, USER_CONFIGS.get(value.get("name", "")), here)
        elif key == "runtime_env":
            yield from (f"{here}.{name}" for name in set(item) - RuntimeEnv.known_fields)
        else:
            yield from unknown_keys(item, known[key].annotation, here)


def main() -> None:
    """Print a line for each finding; exit with 1 where there is one."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m deployments.check_config FILE")
    found = findings(yaml.safe_load(Path(sys.argv[1]).read_text()))
    for text in found:
        print(f"{sys.argv[1]}: {text}")
    sys.exit(1 if found else 0)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _of_application(application: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    parts = {part["name"]: part for part in application.get("deployments", [])}
    refused = [
        f"{name}: no such deployment here; Serve's defaults do not fit"
        for name in DEPLOYMENTS
        if name not in parts
    ]
    refused += [
        f"{name}.user_config: empty, so that Serve tells replicas nothing, and an Ingress lets"
        " nobody in; without the key they have the defaults"
        for name in USER_CONFIGS
        if parts.get(name, {}).get("user_config", {}) is None
    ]
    checks: dict[str, tuple[type[BaseModel], Any]] = {
        "args": (AppArgs, application.get("args", {})),
        **{
            f"{name}.user_config": (kind, parts.get(name, {}).get("user_config") or {})
            for name, kind in USER_CONFIGS.items()
        },
        **{
            f"{name}.autoscaling_config": (AutoscalingConfig, part["autoscaling_config"])
            for name, part in parts.items()
            if isinstance(part.get("autoscaling_config"), dict)
        },
    }
    for name, (kind, given) in checks.items():
        try:
            kind.model_validate(given)
        except ValidationError as err:
            refused.append(f"{name}: {reason_of(err)}")
    if refused:
        return refused
    whole = Whole(
        args=AppArgs.model_validate(checks["args"][1]),
        ingress_settings=IngressSettings.model_validate(checks["Ingress.user_config"][1]),
        upscaler_settings=UpscalerSettings.model_validate(checks["Upscaler.user_config"][1]),
        parts=parts,
        policy=application.get("autoscaling_policy") or {},
        http_options=config.get("http_options", {}),
        proxy_body_bytes=max_body_bytes(),
    )
    return list(disagreements(whole))


if __name__ == "__main__":
    main()
