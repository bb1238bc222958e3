"""
What a cluster has beyond its control plane and nodes: DNS, volumes, network policies, fake nodes.

DNS runs in a pod, as everywhere. The others are processes beside the cluster, inside its namespace, because they are
stand-ins for what a cloud brings: a provisioner for directories of this machine, an enforcer of NetworkPolicy that
renders all policies into one nft table, and KWOK, which plays the kubelet of thousands of nodes. Must not: be started
for clusters that do not ask, or pretend to be more than stand-ins.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.binaries import binary, module_directory
from tests.cluster.commands import wait_until
from tests.cluster.images import load_image, scratch_image_tar

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

DNS_IMAGE = "fairlead.test/coredns:1"
FAKE_NODE_KEY = "kwok.x-k8s.io/node"
"""Annotation of fake nodes, and the key of their taint where there are real ones, too; the value is `fake`."""

LASTING_HOURS = 365 * 24
"""Life of an add-on's token: a process has no kubelet to renew it, and a kept cluster's certificates last as long."""

MANIFESTS = Path(__file__).parent / "manifests"
"""Where objects of add-ons are written down."""
_DNS_SECONDS = 60.0
_NODE_SECONDS_EACH = 0.2
"""A fake node is Ready after some twenty milliseconds; the rest is for a machine that does other things."""
_KWOK = "sigs.k8s.io/kwok"
_STAGES = (
    "node/fast/node-initialize.yaml",
    "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)
"""KWOK's bare binary knows no behaviour; its module carries these descriptions of one."""


def start_all(cluster: Cluster) -> None:
    """
    Start what every cluster with real nodes has: volumes, enforced policies, DNS.

    Raises: NotReady: DNS did not come up.
    """
    start_storage(cluster)
    start_policies(cluster)
    start_dns(cluster)


def start_dns(cluster: Cluster) -> None:
    """
    Run CoreDNS in a pod and wait until it answers; names outside the cluster do not exist.

    Args:
        cluster: A cluster with a real node.
    Raises: NotReady: Its pod did not become ready.
    """
    load_image(cluster, scratch_image_tar(DNS_IMAGE, "coredns"))
    cluster.kubectl("apply", "--filename", str(MANIFESTS / "dns.yaml"))

    def look() -> str | None:
        status = json.loads(
            cluster.kubectl("--namespace", "kube-system", "get", "deployment", "coredns", "--output=json").stdout
        )["status"]
        return None if status.get("readyReplicas") else f"its Deployment says {status}"

    wait_until("readiness of the cluster's DNS", look, seconds=_DNS_SECONDS, every_seconds=0.2)


def start_storage(cluster: Cluster) -> None:
    """Let PersistentVolumeClaims bind: the default storage class `standard`, and the process that serves it."""
    volumes = cluster.directory / "volumes"
    volumes.mkdir(mode=0o711, exist_ok=True)
    cluster.kubectl("apply", "--filename", str(MANIFESTS / "storage.yaml"))
    arguments = [f"-kubeconfig={cluster.kubeconfig}", f"-directory={volumes}"]
    cluster.spawn("storage", [str(binary("storage")), *arguments])


def start_policies(cluster: Cluster) -> None:
    """
    Enforce NetworkPolicy on every real node, by a stand-in.

    Args:
        cluster: A cluster with real nodes; those that join later are not covered.
    """
    for index, _ in enumerate(cluster.nodes):
        cluster.spawn(f"netpol-{index}", [str(binary("netpol")), f"-kubeconfig={cluster.kubeconfig}"], node=index)


def publish(cluster: Cluster, namespace: str, name: str, *, port: int, target: int) -> None:
    """
    Give a process that listens in the cluster's first namespace a Service, as if it were a pod.

    Args:
        cluster: A cluster with a node, whose address the process listens on.
        namespace: Namespace of the Service.
        name: Its name.
        port: TCP port of the Service.
        target: TCP port of the process.
    """
    labels = {"kubernetes.io/service-name": name}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"ports": [{"name": name, "port": port}]},
    }
    addresses = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": name, "port": target}],
        "endpoints": [{"addresses": [cluster.network.address], "conditions": {"ready": True}}],
    }
    document = {"apiVersion": "v1", "kind": "List", "items": [service, addresses]}
    cluster.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(document))


def add_fake_nodes(cluster: Cluster, count: int) -> None:
    """
    Add nodes on which pods are Running and Ready at once without running, and wait until they are Ready.

    Where the cluster has real nodes, fake ones carry the taint `kwok.x-k8s.io/node=fake:NoSchedule`, so that a pod
    which must really run cannot end up there by chance.

    Args:
        cluster: Any cluster.
        count: How many more, 1 or above.
    Raises: NotReady: They did not become Ready.
    """
    if not cluster.runs("kwok"):
        _start_kwok(cluster)
    present = len(_fake_nodes(cluster))
    fresh = [_fake_node(f"fake-{present + index}", tainted=bool(cluster.nodes)) for index in range(count)]
    cluster.kubectl("create", "--filename=-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": fresh}))

    def look() -> str | None:
        ready = sum(_is_ready(node) for node in _fake_nodes(cluster))
        return None if ready == present + count else f"{ready} of {present + count} are Ready"

    log = cluster.directory / "log" / "kwok.log"
    wait_until("readiness of fake nodes", look, seconds=30 + count * _NODE_SECONDS_EACH, log=log, every_seconds=0.2)


def _start_kwok(cluster: Cluster) -> None:
    stages = module_directory("kwok", _KWOK) / "kustomize" / "stage"
    configuration = cluster.directory / "kwok.yaml"
    configuration.write_text("\n---\n".join((stages / name).read_text() for name in _STAGES))
    cluster.spawn(
        "kwok",
        [
            str(binary("kwok")),
            f"--kubeconfig={cluster.kubeconfig}",
            f"--config={configuration}",
            f"--manage-nodes-with-annotation-selector={FAKE_NODE_KEY}=fake",
            "--node-lease-duration-seconds=40",
        ],
    )


def _fake_node(name: str, *, tainted: bool) -> dict[str, object]:
    taints = [{"key": FAKE_NODE_KEY, "value": "fake", "effect": "NoSchedule"}] if tainted else []
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {FAKE_NODE_KEY: "fake"},
            # What scrapes kubelets selects nodes without the label `type`: these have none to scrape.
            "labels": {"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "spec": {"taints": taints},
        "status": {
            "allocatable": {"cpu": "32", "memory": "256Gi", "pods": "1000"},
            "capacity": {"cpu": "32", "memory": "256Gi", "pods": "1000"},
        },
    }


def _fake_nodes(cluster: Cluster) -> list[dict[str, object]]:
    answer = cluster.kubectl("get", "nodes", "--selector=type=kwok", "--output=json").stdout
    nodes: list[dict[str, object]] = json.loads(answer)["items"]
    return nodes


def _is_ready(node: dict[str, object]) -> bool:
    status = node["status"]
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
