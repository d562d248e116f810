"""The manifest and the image for Kubernetes, as far as they can be checked without a cluster."""

import math
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import rayservice
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments" / "kubernetes"
KUBERNETES = "1.33"
# Of KubeRay's ray.io/v1 that stand in the manifest; the operator drops others in silence.
RAY_SERVICE = {"serveConfigV2", "excludeHeadPodFromServeSvc", "rayClusterConfig"}
RAY_CLUSTER = {
    *("rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "authOptions"),
    *("gcsFaultToleranceOptions", "headGroupSpec", "workerGroupSpecs"),
}
WORKER_GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "rayservice.yaml").read_text()))


@pytest.fixture
def spec(documents: list[dict[str, Any]]) -> dict[str, Any]:
    (service,) = (part for part in documents if part["kind"] == "RayService")
    assert service["apiVersion"] == "ray.io/v1"
    found: dict[str, Any] = service["spec"]
    return found


def groups(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    config = spec["rayClusterConfig"]
    workers = {group["groupName"]: group for group in config["workerGroupSpecs"]}
    return {"head": config["headGroupSpec"], **workers}


def container(group: dict[str, Any]) -> dict[str, Any]:
    (only,) = group["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def served(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (application,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
    return {part["name"]: part for part in application["deployments"]}


def test_it_serves_what_serve_config_says(spec: dict[str, Any]) -> None:
    # After a change: python tools/rayservice.py
    assert spec["serveConfigV2"] == (ROOT / "serve_config.yaml").read_text()


def test_filling_in_changes_nothing_else() -> None:
    before = (FOLDER / "rayservice.yaml").read_text()
    other = rayservice.filled(before, "a: 1\n\nb: |\n  c\n")
    parts = [part for part in yaml.safe_load_all(other) if part["kind"] == "RayService"]
    assert parts[0]["spec"]["serveConfigV2"] == "a: 1\n\nb: |\n  c\n"
    assert rayservice.filled(other, (ROOT / "serve_config.yaml").read_text()) == before


def test_kubernetes_own_schemas_take_every_part(
    documents: list[dict[str, Any]], spec: dict[str, Any]
) -> None:
    plain = [part for part in documents if part["kind"] != "RayService"]
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **group["template"]}
        for name, group in groups(spec).items()
    ]
    assert len(pods) == 3
    for part in [*plain, *pods]:
        kubernetes_validate.validate(part, KUBERNETES, strict=True)


def test_a_misspelt_key_of_a_pod_is_found(spec: dict[str, Any]) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        **groups(spec)["gpu"]["template"],
    }
    pod["spec"]["toleration"] = pod["spec"].pop("tolerations")
    with pytest.raises(kubernetes_validate.ValidationError, match="toleration"):
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_what_is_kuberays_own_is_known_to_it(spec: dict[str, Any]) -> None:
    config = spec["rayClusterConfig"]
    assert set(spec) == RAY_SERVICE
    assert set(config) == RAY_CLUSTER
    assert all(set(group) == WORKER_GROUP for group in config["workerGroupSpecs"])
    assert config["authOptions"] == {"mode": "token"}
    assert config["rayVersion"] == version("ray")
    for params in (group["rayStartParams"] for group in groups(spec).values()):
        # The operator turns them into flags: numbers would be refused.
        assert all(isinstance(value, str) for value in params.values())


def test_no_replica_runs_on_the_head_and_no_client_comes_there(spec: dict[str, Any]) -> None:
    assert spec["excludeHeadPodFromServeSvc"] is True
    assert groups(spec)["head"]["rayStartParams"]["num-cpus"] == "0"


def test_replicas_fit_their_pods_and_an_upgrade_the_group(spec: dict[str, Any]) -> None:
    parts = served(spec)
    upscaler, group = parts["Upscaler"], groups(spec)["gpu"]
    limits = container(group)["resources"]["limits"]
    assert int(limits["nvidia.com/gpu"]) == upscaler["ray_actor_options"]["num_gpus"]
    assert int(limits["cpu"]) >= upscaler["ray_actor_options"]["num_cpus"]
    most = upscaler["autoscaling_config"]["max_replicas"]
    surge = math.ceil(most * upscaler["max_surge_percent"] / 100)
    assert group["maxReplicas"] >= most + surge
    assert group["template"]["spec"]["tolerations"]

    ingress, group = parts["Ingress"], groups(spec)["cpu"]
    cpus = int(container(group)["resources"]["limits"]["cpu"])
    a_pod = cpus // ingress["ray_actor_options"]["num_cpus"]
    most = 2 * ingress["autoscaling_config"]["max_replicas"]
    assert group["maxReplicas"] * a_pod > most
    for part in groups(spec).values():
        resources = container(part)["resources"]
        assert resources["limits"] == resources["requests"]


def test_a_pod_outlives_the_drain_of_its_replicas(spec: dict[str, Any]) -> None:
    drain_s = max(part["graceful_shutdown_timeout_s"] for part in served(spec).values())
    for name in ("cpu", "gpu"):
        grace_s = groups(spec)[name]["template"]["spec"]["terminationGracePeriodSeconds"]
        hook = container(groups(spec)[name])["lifecycle"]["preStop"]["exec"]["command"][-1]
        limits = {int(found) for found in re.findall(r"(?:seconds|timeout) (\d+)", hook)}
        assert limits and all(drain_s < limit < grace_s for limit in limits)


def test_every_node_has_the_proxys_environment(spec: dict[str, Any]) -> None:
    table = (ROOT / "docs" / "operations.md").read_text()
    for group in groups(spec).values():
        environment = {item["name"]: item.get("value") for item in container(group)["env"]}
        path = environment["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
        assert path == "deployments.proxy.middlewares"
        limits = served(spec)["Ingress"]["user_config"]["limits"]
        assert int(environment["NULLSCALE_MAX_BODY_BYTES"]) == limits["max_body_bytes"]
        for name in environment:
            assert f"`{name}`" in table, name


def test_nobody_is_root_and_no_secret_is_written_down(documents: list[dict[str, Any]]) -> None:
    assert not any(part["kind"] == "Secret" for part in documents)
    pods = [node for node in nodes(documents) if "containers" in node]
    assert len(pods) == 3
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        (only,) = pod["containers"]
        assert only["securityContext"]["allowPrivilegeEscalation"] is False
    for item in (item for pod in pods for item in pod["containers"][0]["env"]):
        if re.search("TOKEN|PASSWORD|SECRET", item["name"]):
            assert "secretKeyRef" in item["valueFrom"]


def nodes(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from nodes(part)


def test_pictures_travel_through_memory(spec: dict[str, Any]) -> None:
    for group in groups(spec).values():
        (shared,) = (v for v in group["template"]["spec"]["volumes"] if v["name"] == "memory")
        room = int(shared["emptyDir"]["sizeLimit"].removesuffix("Gi")) * 2**30
        # Without a number of its own Ray takes a share of the memory.
        memory = int(container(group)["resources"]["limits"]["memory"].removesuffix("Gi")) * 2**30
        store = group["rayStartParams"].get("object-store-memory", 0.3 * memory)
        assert float(store) < room


def test_the_image_has_what_is_pinned_and_runs_as_nobody(spec: dict[str, Any]) -> None:
    text = (FOLDER / "Dockerfile").read_text()
    steps = re.findall(r"^([A-Z]+) (.*(?:\\\n.*)*)", text, re.MULTILINE)
    copied = {word for step, rest in steps if step == "COPY" for word in rest.split()[:-1]}
    assert copied >= {"pyproject.toml", "constraints.txt", "nullscale", "sr_engine", "deployments"}
    (install,) = (rest for step, rest in steps if step == "RUN" and "pip install" in rest)
    assert "--constraint constraints.txt" in install
    (packages,) = (line.split() for line in text.splitlines() if "apt-get install" in line)
    assert {"gcc", "libc6-dev", "procps", "wget"} <= set(packages), "Triton needs a C compiler"
    users = [rest for step, rest in steps if step == "USER"]
    security = groups(spec)["gpu"]["template"]["spec"]["securityContext"]
    assert users == [f"{security['runAsUser']}:{security['runAsGroup']}"]
    # What is copied is let through, and nothing else is sent to the builder.
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert "*" in ignored
    for name in copied - {"/opt/nullscale"}:
        if not name.startswith("--"):
            assert f"!{name}" in ignored and (ROOT / name).exists()


def test_the_pinned_torch_is_the_one_for_gpus() -> None:
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    # A local version such as +cpu would not be found on PyPI, and has no CUDA.
    assert "+" not in pins["torch"]
    assert "torchvision" not in pins
