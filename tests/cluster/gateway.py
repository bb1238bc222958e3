"""
Start Traefik as the controller of the Gateway API and of Ingresses where a test asks for it, so that both route.

It runs as a process in the first node's namespace, as the load balancer of a cloud would stand before a cluster: pods
reach it through a Service, and it reaches them. The CRDs are the standard channel that its own module pins. Must not:
be started for a cluster that does not ask, or be reached from the host.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.addons import LASTING_HOURS, MANIFESTS, publish
from tests.cluster.binaries import binary, module_directory
from tests.cluster.commands import wait_until
from tests.cluster.errors import ClusterError
from tests.cluster.progress import step

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

PROGRAM = "traefik"
"""Program it is built from, its process, and its namespace, ServiceAccount, Service and GatewayClass."""

_MODULE = "sigs.k8s.io/gateway-api"
_PORT = 80
"""The port of Gateways' listeners has to be one that Traefik listens on, and 80 is what people write."""
INGRESS_PORT = 443
"""Where the first node serves Ingresses of class `traefik`, whose Secrets have their certificates."""
_READY_SECONDS = 120.0
"""Forty times what a quiet machine takes."""


@dataclass(frozen=True, kw_only=True)
class GatewayController:
    """What routes in a cluster: the class that a Gateway names, and where the routes are served."""

    class_name: str
    """Name for `gatewayClassName`."""
    address: str
    """Address that pods and processes of the cluster dial; Gateways have it in their status."""
    port: int
    """TCP port, which is also that of a Gateway's listener."""


def ensure_gateway(cluster: Cluster) -> GatewayController:
    """
    Serve Gateways and Ingresses by Traefik, unless the cluster does already, and wait until it took its GatewayClass.

    Args:
        cluster: A cluster with real nodes.
    Raises:
        ClusterError: The cluster has no real node.
        BuildFailed: The program cannot be built.
        NotReady: The controller did not come up.
    """
    if not cluster.nodes:
        raise ClusterError(f"{cluster.name} has no real node, so there is nothing to route to: start it with one")
    binary(PROGRAM)
    with step(f"starting {PROGRAM} in {cluster.name}", 5):
        if not cluster.runs(PROGRAM):
            _start(cluster)
        _await_acceptance(cluster)
    return GatewayController(class_name=PROGRAM, address=_address(cluster), port=_PORT)


def _await_acceptance(cluster: Cluster) -> None:
    def look() -> str | None:
        found = json.loads(cluster.kubectl("get", "gatewayclass", PROGRAM, "--output=json").stdout)
        status = found.get("status", {})
        accepted = {each["type"]: each["status"] for each in status.get("conditions", [])}.get("Accepted")
        return None if accepted == "True" else f"its GatewayClass says {status}"

    log = cluster.directory / "log" / f"{PROGRAM}.log"
    wait_until("acceptance of the GatewayClass", look, seconds=_READY_SECONDS, log=log, every_seconds=0.2)


def _start(cluster: Cluster) -> None:
    definitions = str(module_directory(PROGRAM, _MODULE) / "config" / "crd" / "standard")
    cluster.kubectl("apply", "--server-side", "--filename", definitions)
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=120s", "--filename", definitions)

    def look() -> str | None:
        # Established does not mean discovered yet: until then, the GatewayClass is of no known kind.
        applied = cluster.kubectl("apply", "--server-side", "--filename", str(MANIFESTS / "gateway.yaml"), check=False)
        return applied.stderr.strip() if applied.returncode else None

    wait_until("discovery of the Gateway API", look, seconds=_READY_SECONDS, every_seconds=0.2)
    publish(cluster, PROGRAM, PROGRAM, port=_PORT, target=_PORT)
    path = cluster.directory / f"{PROGRAM}.kubeconfig"
    kubeconfig = cluster.kubeconfig_for(PROGRAM, PROGRAM, path, hours=LASTING_HOURS)
    cluster.spawn(
        PROGRAM,
        [
            str(binary(PROGRAM)),
            f"--entrypoints.web.address={cluster.network.address}:{_PORT}",
            f"--entrypoints.websecure.address={cluster.network.address}:{INGRESS_PORT}",
            "--entrypoints.websecure.http.tls=true",
            "--providers.kubernetesingress=true",
            f"--providers.kubernetesingress.ingressclass={PROGRAM}",
            "--providers.kubernetesgateway=true",
            f"--providers.kubernetesgateway.statusaddress.ip={_address(cluster)}",
            # The default of two seconds spares a controller with thousands of routes.
            "--providers.providersthrottleduration=100ms",
            # Both would ask the world.
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
        ],
        env={"KUBECONFIG": str(kubeconfig)},
    )


def _address(cluster: Cluster) -> str:
    return cluster.kubectl(
        "--namespace", PROGRAM, "get", "service", PROGRAM, "--output=jsonpath={.spec.clusterIP}"
    ).stdout
