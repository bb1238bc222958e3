"""DNS, volumes, network policies and fake nodes do what they stand for, on a real node."""

import json
from collections.abc import Iterator
from functools import partial

import pytest

from tests.cluster.addons import add_fake_nodes
from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import MakeCluster
from tests.cluster_tests.sandbox import Sandbox, sandbox_in, service
from tests.polling import wait_until


@pytest.fixture
def sandbox(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Give a test a namespace of its own."""
    with sandbox_in(cluster, request.node.name) as sandbox:
        yield sandbox


def _policy(name: str, spec: dict[str, object]) -> dict[str, object]:
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}


def _labels(app: str) -> dict[str, object]:
    return {"matchLabels": {"app": app}}


def test_pod_resolves_a_service_and_nothing_outside(sandbox: Sandbox) -> None:
    """A short name finds the Service's address; a name of the world is answered at once, with no."""
    sandbox.apply(service("server"))
    for name in ("server", "client"):
        sandbox.pod(name)
    address = sandbox.kubectl("get", "service", "server", "--output=jsonpath={.spec.clusterIP}").stdout
    found = sandbox.probe("client", "lookup", "server")
    assert found.stdout.split() == [address], found.stderr
    url = f"http://server.{sandbox.namespace}.svc.cluster.local/"
    wait_until(lambda: sandbox.reaches("client", url), "the server by its long name")
    refused = sandbox.probe("client", "lookup", "-timeout=60s", "example.com")
    assert refused.returncode != 0
    assert "no such host" in refused.stderr


def test_claim_binds_and_its_files_outlive_the_pod(sandbox: Sandbox) -> None:
    """The default class provides a volume once a pod needs it; a second pod finds what the first one wrote."""
    sandbox.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "kept"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
        }
    )
    sandbox.pod("writer", claim="kept")
    assert sandbox.probe("writer", "write", "/kept/note", "still here").returncode == 0
    volume = sandbox.kubectl("get", "pvc", "kept", "--output=jsonpath={.spec.volumeName}").stdout
    sandbox.kubectl("delete", "pod", "writer")
    sandbox.pod("reader", claim="kept")
    assert sandbox.probe("reader", "read", "/kept/note").stdout == "still here"
    sandbox.kubectl("delete", "pod", "reader")
    sandbox.kubectl("delete", "pvc", "kept")
    directory = sandbox.cluster.directory / "volumes" / volume
    wait_until(lambda: not directory.exists(), f"the end of {directory}")
    wait_until(lambda: sandbox.kubectl("get", "pv", volume, check=False).returncode != 0, f"the end of {volume}")


def test_ingress_policy_denies_all_but_whom_it_names(sandbox: Sandbox) -> None:
    """An isolated pod is reached, through its Service, by the pod its policy names, and by nobody else."""
    sandbox.apply(service("server"))
    for name in ("server", "friend", "stranger"):
        sandbox.pod(name)
    url = "http://server/"
    for name in ("friend", "stranger"):
        wait_until(partial(sandbox.reaches, name, url), f"{name} reaching the server without a policy")
    sandbox.apply(
        _policy(
            "only-friends",
            {
                "podSelector": _labels("server"),
                "ingress": [{"from": [{"podSelector": _labels("friend")}], "ports": [{"port": "http"}]}],
            },
        )
    )
    wait_until(lambda: not sandbox.reaches("stranger", url), "the stranger being shut out")
    wait_until(lambda: sandbox.reaches("friend", url), "the friend being let in still")
    # The kubelet's probes come from the node and are no business of the policy.
    assert (
        sandbox.kubectl("get", "pod", "server", "--output=jsonpath={.status.containerStatuses[0].ready}").stdout
        == "true"
    )
    sandbox.kubectl("delete", "networkpolicy", "only-friends")
    wait_until(lambda: sandbox.reaches("stranger", url), "the stranger being let in again")


def test_egress_policy_leaves_only_what_it_names(sandbox: Sandbox) -> None:
    """A pod under an egress policy reaches DNS and one server, not another one and not the API server."""
    for name in ("allowed", "forbidden"):
        sandbox.apply(service(name))
    for name in ("allowed", "forbidden", "client"):
        sandbox.pod(name)
    api = "kubernetes.default.svc:443"
    wait_until(lambda: sandbox.probe("client", "dial", api).returncode == 0, "the client reaching the API server")
    sandbox.apply(
        _policy(
            "narrow",
            {
                "podSelector": _labels("client"),
                "policyTypes": ["Egress"],
                "egress": [
                    {"to": [{"podSelector": _labels("allowed")}], "ports": [{"port": 8080}]},
                    {"to": [{"namespaceSelector": {}}], "ports": [{"port": 53, "protocol": "UDP"}]},
                ],
            },
        )
    )
    wait_until(lambda: not sandbox.reaches("client", "http://forbidden/"), "the forbidden server being out of reach")
    wait_until(lambda: sandbox.reaches("client", "http://allowed/"), "the allowed server being in reach")
    assert sandbox.probe("client", "dial", "-timeout=1s", api).returncode != 0
    assert sandbox.probe("client", "lookup", "forbidden").returncode == 0
    wait_until(lambda: sandbox.reaches("allowed", "http://forbidden/"), "others reaching the forbidden server")


def test_fake_nodes_run_two_hundred_pods(clusters: MakeCluster) -> None:
    """A control plane without a kubelet rolls out a Deployment on nodes that only pretend."""
    plane = clusters("fake")
    add_fake_nodes(plane, 3)
    plane.kubectl("create", "namespace", "many")
    plane.kubectl("--namespace", "many", "create", "deployment", "many", "--image=none/none:1", "--replicas=200")
    plane.kubectl("--namespace", "many", "rollout", "status", "deployment/many", "--timeout=120s")
    pods = json.loads(plane.kubectl("--namespace", "many", "get", "pods", "--output=json").stdout)["items"]
    assert len(pods) == 200
    assert {pod["spec"]["nodeName"] for pod in pods} == {"fake-0", "fake-1", "fake-2"}
    plane.down()
