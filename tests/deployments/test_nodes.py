"""Three nodes with a GPU each: where replicas run, and a node that dies under load.

`load_tests/node_loss.py` is the long form.
"""

import re
from collections.abc import Iterator

import node_loss
import nodes
import pytest
from cluster import serve_logs
from marks import CLUSTER

pytestmark = CLUSTER


@pytest.fixture(scope="module")
def three() -> Iterator[nodes.Nodes]:
    with nodes.service_on_nodes(node_loss.ARGS) as three:
        yield three


def test_every_replica_has_a_gpu_of_its_own(three: nodes.Nodes) -> None:
    logs = [path.read_text() for path in serve_logs().glob("replica_*Upscaler*.log")]
    places = [found for log in logs for found in re.findall(r"on node (\w+) with GPUs (\S*)", log)]
    assert [gpus for _, gpus in places] == ["0"] * 3
    assert sorted(three.replicas("Upscaler").values()) == sorted({node for node, _ in places})
    assert len(set(three.replicas("Ingress").values())) == 3


async def test_a_dead_node_costs_a_client_one_retry_at_most(three: nodes.Nodes) -> None:
    found = await node_loss.measure(three, seconds=20, rate=3)
    assert found["survivors"]["lost"] == 0, found
    # What was on a connection to the dead node's proxy, a client has to send again.
    assert found["dead_proxy"]["broken"] > 0
    assert found["dead_proxy"]["lost_after_retry"] == 0, found
    assert len(three.replicas("Upscaler")) == 2
