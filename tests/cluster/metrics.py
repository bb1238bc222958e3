"""
Start metrics-server where a test asks for it, so that `kubectl top` and autoscalers have figures to go by.

It runs as a process beside the cluster with the rights that its own manifests grant, and keeps to TLS on both sides: it
trusts the kubelets' authority, and the API server trusts its. Must not: be started for a cluster that does not ask; an
aggregated API whose backend is gone blocks the deletion of every namespace.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from tests.cluster.addons import LASTING_HOURS, publish
from tests.cluster.binaries import binary, module_directory
from tests.cluster.commands import wait_until
from tests.cluster.errors import ClusterError
from tests.cluster.pki import Authority
from tests.cluster.progress import step

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

PROGRAM = "metrics-server"
"""Program it is built from, its process, and its ServiceAccount and Service in kube-system."""

_MODULE = "sigs.k8s.io/metrics-server"
_NAMESPACE = "kube-system"
_PORT = 4443
"""Its own default, 10250, is the kubelet's, and both have the first node's address."""
_RESOLUTION_SECONDS = 10
"""Pause between two looks at a kubelet; it accepts no shorter one."""
_READY_SECONDS = 120.0
"""Two looks at each kubelet take eleven seconds; the rest is for a machine that does other things."""


def ensure_metrics(cluster: Cluster) -> None:
    """
    Serve the metrics API, unless the cluster does already, and wait until it has figures of every real node.

    Args:
        cluster: A cluster with real nodes. Fake ones have no kubelet to ask, and no figures.
    Raises:
        ClusterError: The cluster has no real node.
        BuildFailed: The program cannot be built.
        NotReady: No figures came.
    """
    if not cluster.nodes:
        raise ClusterError(f"{cluster.name} has no real node, so there is nothing to measure: start it with one")
    binary(PROGRAM)
    with step(f"starting {PROGRAM} in {cluster.name}", 12):
        if not cluster.runs(PROGRAM):
            _start(cluster)
        _await_figures(cluster)


def _await_figures(cluster: Cluster) -> None:
    def look() -> str | None:
        answer = cluster.kubectl("get", "--raw=/apis/metrics.k8s.io/v1beta1/nodes", check=False)
        if answer.returncode:
            return answer.stderr.strip()
        measured = {item["metadata"]["name"] for item in json.loads(answer.stdout)["items"]}
        missing = {node.name for node in cluster.nodes} - measured
        return f"no figures of {', '.join(sorted(missing))}" if missing else None

    log = cluster.directory / "log" / f"{PROGRAM}.log"
    wait_until("figures from metrics-server", look, seconds=_READY_SECONDS, log=log, every_seconds=0.3)


def _start(cluster: Cluster) -> None:
    pki = cluster.directory / "pki"
    authority = Authority(pki, f"{PROGRAM}-ca")
    serving = authority.issue(PROGRAM, PROGRAM, names=[f"{PROGRAM}.{_NAMESPACE}.svc"])
    rights = module_directory(PROGRAM, _MODULE) / "manifests" / "base" / "rbac.yaml"
    cluster.kubectl("apply", "--server-side", "--filename", str(rights))
    path = cluster.directory / f"{PROGRAM}.kubeconfig"
    kubeconfig = cluster.kubeconfig_for(_NAMESPACE, PROGRAM, path, hours=LASTING_HOURS)
    cluster.spawn(
        PROGRAM,
        [
            str(binary(PROGRAM)),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={cluster.network.address}",
            f"--secure-port={_PORT}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--kubelet-certificate-authority={cluster.ca_file}",
            "--kubelet-preferred-address-types=InternalIP",
            "--kubelet-use-node-status-port",
            f"--metric-resolution={_RESOLUTION_SECONDS}s",
            "--kubelet-request-timeout=5s",
            # Fake nodes have the label.
            "--node-selector=!type",
        ],
    )
    publish(cluster, _NAMESPACE, PROGRAM, port=443, target=_PORT)
    api = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"namespace": _NAMESPACE, "name": PROGRAM},
            "caBundle": base64.b64encode(authority.files.certificate.read_bytes()).decode(),
        },
    }
    cluster.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(api))
