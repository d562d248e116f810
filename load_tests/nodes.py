"""The application on a Ray cluster of several nodes, all of them on this machine.

Each node is a raylet with an address of its own and one GPU, which is a number in Ray's books.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import ray
from cluster import ENVIRONMENT, configured, deploy, deployment_of, wait_until_healthy
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.context import _get_global_client
from ray.serve.schema import ProxyStatus

ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
NODE = {
    "num_cpus": 4,
    "num_gpus": 1,
    "object_store_memory": 256 * 2**20,
    "include_dashboard": False,
}
DRAIN_S = 30
APP_OF_NODES = "placed_app:build_app"


@dataclass(frozen=True, slots=True)
class Nodes:
    """A running service; the head is the node that this process is connected to.

    Attributes:
        url: of every node's proxy; the kernel chooses one for each connection.
        config: what is deployed.
    """

    url: str
    config: dict[str, Any]
    cluster: Cluster

    @property
    def head_id(self) -> str:
        """The id of the node that stays."""
        return str(self.cluster.head_node.node_id)

    def replicas(self, deployment: str) -> dict[str, str]:
        """Return the node's id of each running replica, by the replica's."""
        return {
            replica["replica_id"]: replica["node_id"]
            for replica in self._replicas(deployment)
            if replica["state"] == "RUNNING"
        }

    def holds_any(self, node_id: str) -> bool:
        """Say whether a node has a replica that serves, one that only ends its work included."""
        return any(
            replica.get("node_id") == node_id  # none before it has one
            for deployment in ("Upscaler", "Ingress")
            for replica in self._replicas(deployment)
        )

    def _replicas(self, deployment: str) -> list[dict[str, Any]]:
        (application,) = _get_global_client().get_serve_details()["applications"].values()
        found: list[dict[str, Any]] = application["deployments"][deployment]["replicas"]
        return found

    def kill(self, node_id: str) -> None:
        """End all processes of a node at once, as a power cut would."""
        (node,) = (node for node in self.cluster.worker_nodes if node.node_id == node_id)
        pids = [info.process.pid for infos in node.all_processes.values() for info in infos]
        for process in (found for pid in pids for found in _with_children(pid)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self.cluster.remove_node(node, allow_graceful=False)

    def drain(self, node_id: str, deadline_s: int) -> None:
        """Ask for a node's end, as an operator would; its replicas go elsewhere."""
        command = [
            *(str(Path(sys.executable).with_name("ray")), "drain-node"),
            *("--address", self.cluster.address, "--node-id", node_id),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "maintenance"),
            *("--deadline-remaining-seconds", str(deadline_s)),
        ]
        subprocess.run(command, check=True, capture_output=True)

    def add(self) -> str:
        """Let a new node join; return its id."""
        # Those that have left are counted too.
        address = f"127.0.0.{len(ray.nodes()) + 2}"
        return str(self.cluster.add_node(node_ip_address=address, **NODE).node_id)


@contextmanager
def service_on_nodes(args: dict[str, Any]) -> Iterator[Nodes]:
    """Start three nodes, each with a proxy, an Ingress replica and an Upscaler with its GPU.

    Args:
        args: as of `cluster.configured`.
    """
    count = len(ADDRESSES)
    config = configured(args, {"Upscaler": count, "Ingress": count}, APP_OF_NODES)
    config["proxy_location"] = "EveryNode"
    # A connection that the server closes, and a client opens again, may get another proxy.
    config["http_options"]["keep_alive_timeout_s"] = 600
    deployment_of(config, "Upscaler")["ray_actor_options"]["num_gpus"] = 1
    deployment_of(config, "Ingress")["max_replicas_per_node"] = 1
    for name in ("Ingress", "Upscaler"):
        deployment_of(config, name)["graceful_shutdown_timeout_s"] = DRAIN_S
    hooks = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "placed_app.middlewares"}
    with patch.dict(os.environ, ENVIRONMENT | hooks):
        cluster = Cluster()
        try:
            for address in ADDRESSES:
                cluster.add_node(node_ip_address=address, **NODE)
            ray.init(address=cluster.address, _node_ip_address=ADDRESSES[0], log_to_driver=False)
            serve.start(proxy_location="EveryNode", http_options=config["http_options"])
            deploy(config)
            wait_until_healthy()
            wait_for_proxies(count)
            yield Nodes(f"http://127.0.0.1:{config['http_options']['port']}", config, cluster)
        finally:
            with suppress(Exception):
                serve.shutdown()
            ray.shutdown()
            cluster.shutdown()


def wait_for_proxies(count: int, timeout_s: float = 120) -> None:
    """Return when so many proxies are in good health."""
    deadline_s = time.monotonic() + timeout_s
    while list(serve.status().proxies.values()).count(ProxyStatus.HEALTHY) < count:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not {count} proxies: {serve.status().proxies}")
        time.sleep(0.5)


def _with_children(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
