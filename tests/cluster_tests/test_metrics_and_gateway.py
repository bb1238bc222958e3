"""Metrics-server and Traefik, where a test asks for them, do their work on a real node, and go with their cluster."""

import http.client
import json
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests import polling
from tests.cluster.access import connect
from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import MakeCluster
from tests.cluster.gateway import GatewayController, ensure_gateway
from tests.cluster.metrics import ensure_metrics
from tests.cluster_tests.sandbox import Sandbox, sandbox_in
from tests.cluster_tests.traces import Traces

wait_until = partial(polling.wait_until, deadline_seconds=240.0)  # an autoscaler takes half a minute at best
HOST = "shop.example.test"
POD_HOST = "traefik.traefik.svc.cluster.local"
"""The Service of the gateway, as pods know it."""
SHARES = {"stable": 80, "canary": 20}
"""Weights of the two versions, in percent."""
REQUESTS = 500


@pytest.fixture(scope="module")
def equipped(clusters: MakeCluster) -> Iterator[Cluster]:
    """Start a cluster that other tests do not see: most are to run without an aggregated API. Nothing is left of it."""
    cluster = clusters("equipped", nodes=1)
    traces = Traces.of(cluster.name)
    yield cluster
    cluster.down()
    traces.expect_none()


@pytest.fixture
def sandbox(equipped: Cluster, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Give a test a namespace of its own."""
    with sandbox_in(equipped, request.node.name) as sandbox:
        yield sandbox


@pytest.mark.builds("metrics-server")
def test_metrics_of_nodes_and_pods_are_real_and_scale(sandbox: Sandbox) -> None:
    """`kubectl top` has figures of the node and of a pod, and an autoscaler acts on them."""
    sandbox.deployment("served")
    ensure_metrics(sandbox.cluster)
    ensure_metrics(sandbox.cluster)  # a second call finds it running
    node, cpu, _, memory, _ = sandbox.kubectl("top", "nodes", "--no-headers").stdout.split()
    assert node == "node-0"
    assert int(cpu.removesuffix("m")) > 0
    machine_mebibytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    assert 50 < int(memory.removesuffix("Mi")) < machine_mebibytes
    pod, _, memory = wait_until(lambda: _top_of_pods(sandbox), "figures of the pod")
    assert pod.startswith("served-")
    # A Go program that serves next to nothing: not zero, and far from what a machine has.
    assert 0 < int(memory.removesuffix("Mi")) < 64
    sandbox.apply(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "served"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "served"},
                "minReplicas": 1,
                "maxReplicas": 2,
                # Any program needs more memory than this, so that the figure alone decides.
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Ki"}},
                    }
                ],
            },
        }
    )
    wait_until(lambda: _condition(_read(sandbox, "hpa/served"), "ScalingActive"), "an active autoscaler")
    wait_until(lambda: _read(sandbox, "deployment/served")["spec"]["replicas"] == 2, "the second replica")


@pytest.mark.builds("traefik")
def test_a_route_splits_requests_by_weight(sandbox: Sandbox) -> None:
    """An HTTPRoute with the weights 80 and 20 serves them so, to processes and pods, and follows when they change."""
    controller = ensure_gateway(sandbox.cluster)
    assert ensure_gateway(sandbox.cluster) == controller
    for version in SHARES:
        sandbox.deployment(version)
    sandbox.apply(_gateway(controller), _route(SHARES))
    wait_until(lambda: _condition(_read(sandbox, "gateway/front"), "Programmed"), "the Gateway to be Programmed")
    gateway = _read(sandbox, "gateway/front")
    assert [each["value"] for each in gateway["status"]["addresses"]] == [controller.address]
    ask = partial(_ask, sandbox.cluster, controller)
    wait_until(lambda: set(ask(10)) == set(SHARES), "both versions to answer")
    served = ask(REQUESTS)
    assert {version: served[version] * 100 / REQUESTS for version in SHARES} == pytest.approx(SHARES, abs=2)
    client = sandbox.kubectl("get", "pods", "--selector=app=canary", "--output=jsonpath={.items[0].metadata.name}")
    answer = sandbox.probe(client.stdout, "get", f"http://{POD_HOST}/")
    assert answer.stdout.split()[0] in SHARES, answer.stderr
    sandbox.apply(_route({"stable": 0, "canary": 100}))
    wait_until(lambda: ask(20) == {"canary": 20}, "all requests to go to the canary")


def _top_of_pods(sandbox: Sandbox) -> list[str]:
    return sandbox.kubectl("top", "pods", "--no-headers", check=False).stdout.split()


def _read(sandbox: Sandbox, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sandbox.kubectl("get", name, "--output=json").stdout)
    return found


def _condition(found: dict[str, Any], name: str) -> bool:
    conditions = found.get("status", {}).get("conditions", [])
    return any(each["type"] == name and each["status"] == "True" for each in conditions)


def _gateway(controller: GatewayController) -> dict[str, object]:
    listener = {"name": "http", "protocol": "HTTP", "port": controller.port}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "front"},
        "spec": {"gatewayClassName": controller.class_name, "listeners": [listener]},
    }


def _route(weights: dict[str, int]) -> dict[str, object]:
    backends = [{"name": version, "port": 80, "weight": weight} for version, weight in weights.items()]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "split"},
        "spec": {
            "parentRefs": [{"name": "front"}],
            "hostnames": [HOST, POD_HOST],
            "rules": [{"backendRefs": backends}],
        },
    }


def _ask(cluster: Cluster, controller: GatewayController, times: int) -> Counter[str]:
    """Send requests from inside the namespace, over one connection; return how many each version answered."""
    answers: Counter[str] = Counter()
    connection = http.client.HTTPConnection(controller.address, controller.port)
    connection.sock = connect(cluster.netns, controller.address, controller.port)
    try:
        for _ in range(times):
            connection.request("GET", "/", headers={"Host": HOST})
            response = connection.getresponse()
            text = response.read().decode()
            answers[text.split()[0] if response.status == http.client.OK else f"{response.status}"] += 1
    finally:
        connection.close()
    return answers
