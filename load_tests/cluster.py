"""The application of `serve_config.cpu.yaml` on a Ray cluster of this machine, to be tormented."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import psutil
import ray
import yaml
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from deployments.limits import IngressSettings
from deployments.upscaler import UpscalerSettings

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "serve_config.cpu.yaml"
APP = "nullscale"
REPLICA = f"ray::ServeReplica:{APP}:"
UPSCALER = f"{REPLICA}Upscaler"
INGRESS = f"{REPLICA}Ingress"
CONTROLLER = "ray::ServeController"
START_S = 300
GONE_S = 30
SETTINGS = {
    "Ingress": set(IngressSettings.model_fields),
    "Upscaler": set(UpscalerSettings.model_fields),
}
ENVIRONMENT = {
    # Two busy cores are slower than what Serve takes for a dead proxy.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    # Ray's workers run at nice 15: beside anything else at work they would hardly advance.
    "RAY_worker_niceness": "0",
    # Idle OpenMP threads would spin.
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "deployments.proxy.middlewares",
    "PYTHONPATH": f"{ROOT}:{ROOT / 'load_tests'}",
}


@contextmanager
def service(
    args: dict[str, Any],
    *,
    upscalers: int = 2,
    ingresses: int = 2,
    import_path: str = "deployments.app:build_app",
    environment: Mapping[str, str] = MappingProxyType({}),
    dashboard: bool = False,
) -> Iterator[str]:
    """Start the service on a free port and yield its address once every replica is ready.

    Args:
        args: as of `configured`.
        environment, dashboard: as of `running`.
    """
    config = configured(args, {"Upscaler": upscalers, "Ingress": ingresses}, import_path)
    with running(config, environment=environment, dashboard=dashboard) as url:
        yield url


@contextmanager
def running(
    config: dict[str, Any],
    *,
    environment: Mapping[str, str] = MappingProxyType({}),
    dashboard: bool = False,
) -> Iterator[str]:
    """Start a whole configuration, and yield its address once every replica is ready.

    Args:
        environment: of the cluster's processes, beside `ENVIRONMENT`.
        dashboard: start Ray's as well, which tells Prometheus of the nodes.
    """
    with patch.dict(os.environ, {**ENVIRONMENT, **environment}):
        # Not "auto": that would join whatever cluster this machine ran last.
        ray.init(address="local", num_cpus=2, include_dashboard=dashboard, log_to_driver=False)
        try:
            serve.start(http_options=config["http_options"])
            deploy(config)
            url = f"http://127.0.0.1:{config['http_options']['port']}"
            wait_until_healthy()
            yield url
        finally:
            serve.shutdown()
            ray.shutdown()


def configured(
    args: dict[str, Any],
    replicas: dict[str, int],
    import_path: str = "deployments.app:build_app",
) -> dict[str, Any]:
    """Return the file's configuration on a free port, with other settings.

    Args:
        args: settings over those of the file, wherever in it they belong: `limits` in the Ingress's
            `user_config`, `max_active` in the Upscaler's, what remains in the application's args.
        replicas: of each deployment, 1 by default.
    """
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        config["http_options"]["port"] = probe.getsockname()[1]
    (application,) = config["applications"]
    application["import_path"] = import_path
    for deployment in application["deployments"]:
        name = deployment["name"]
        deployment["num_replicas"] = replicas.get(name, 1)
        deployment["ray_actor_options"]["num_cpus"] = 0.1
        deployment["graceful_shutdown_timeout_s"] = 0
        if name in SETTINGS:
            own = {key: value for key, value in args.items() if key in SETTINGS[name]}
            deployment["user_config"] |= own
            args = {key: value for key, value in args.items() if key not in own}
        if name == "Upscaler":
            deployment["health_check_period_s"] = 2
    application["args"] |= args
    return config


def deployment_of(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the part of a configuration that is one deployment's."""
    (application,) = config["applications"]
    (found,) = (part for part in application["deployments"] if part["name"] == name)
    assert isinstance(found, dict)
    return found


def deploy(config: dict[str, Any]) -> None:
    """Make the applications of a configuration the cluster's own."""
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config))


def wait_until_healthy(timeout_s: float = START_S) -> None:
    """Return when every deployment has as many replicas as it should, and all of them run."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        application = serve.status().applications.get(APP)
        if application is not None and application.status == "DEPLOY_FAILED":
            raise RuntimeError(f"the service does not start: {application}")
        deployments = application.deployments.values() if application else []
        # With other arguments an application is built first, its old replicas in good health.
        if (
            application
            and application.status == "RUNNING"
            and all(
                deployment.status == "HEALTHY" and set(deployment.replica_states) == {"RUNNING"}
                for deployment in deployments
            )
        ):
            return
        time.sleep(0.5)
    raise TimeoutError(f"not in good health after {timeout_s:.0f} s: {serve.status()}")


def wait_until_gone(pid: int, timeout_s: float = GONE_S) -> None:
    """Return when a process has ended.

    Raises:
        psutil.TimeoutExpired: it is still there.
    """
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(timeout_s)


def processes(title: str) -> list[psutil.Process]:
    """This process's descendants whose title begins so, of the cluster that it started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith(title):
                found.append(process)
        except psutil.Error:
            continue
    return found


def session() -> Path:
    """Where the cluster's files are."""
    return Path("/tmp/ray") / ray.get_runtime_context().get_session_name()


def serve_logs() -> Path:
    """Where the replicas' log files are."""
    return session() / "logs" / "serve"
