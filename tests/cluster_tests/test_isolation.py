"""The premise of the product: nothing outside can dial into a cluster, and it can dial one address on allowed ports."""

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator

import aiohttp
import kubernetes
import pytest

from tests.cluster.access import call_inside, connect, socket_factory
from tests.cluster.cluster import Cluster
from tests.cluster.controlplane import API_PORT
from tests.cluster.errors import NotIsolated
from tests.cluster.images import PROBE_IMAGE, load_image, probe_image_tar
from tests.cluster.network import OUTSIDE_ADDRESS, POD_NETWORK, SERVICE_NETWORK
from tests.polling import wait_until

DIAL_SECONDS = 0.5
"""Silence that long means dropped: an open port of this machine answers within a millisecond."""


@pytest.fixture
def routed(cluster: Cluster) -> Iterator[int]:
    """
    Give the host routes to the cluster's pods and services for marked sockets, and yield the mark.

    A dial that fails for want of a route would prove nothing about the firewall.
    """
    network = cluster.network
    mark = str(7000 + network.record.number)
    link = ["via", network.address, "dev", network.host_link, "table", mark]
    for destination in (POD_NETWORK, SERVICE_NETWORK):
        subprocess.run(["ip", "route", "replace", destination, *link], check=True)
    subprocess.run(["ip", "rule", "add", "fwmark", mark, "table", mark], check=True)
    yield int(mark)
    subprocess.run(["ip", "rule", "delete", "fwmark", mark, "table", mark], check=True)
    subprocess.run(["ip", "route", "flush", "table", mark], check=True)


@pytest.fixture(scope="module")
def served(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Run a pod behind a Service; yield the pod's and the Service's address."""
    load_image(cluster, probe_image_tar())
    cluster.kubectl("create", "namespace", "isolation")
    kubectl = ["--namespace=isolation"]
    cluster.kubectl(*kubectl, "run", "served", f"--image={PROBE_IMAGE}", "--port=8080", "--expose", "--", "serve")
    cluster.kubectl(*kubectl, "wait", "--for=condition=Ready", "--timeout=120s", "pod/served")
    pod = cluster.kubectl(*kubectl, "get", "pod", "served", "--output=jsonpath={.status.podIP}").stdout
    service = cluster.kubectl(*kubectl, "get", "service", "served", "--output=jsonpath={.spec.clusterIP}").stdout
    yield pod, service
    cluster.kubectl("delete", "namespace", "isolation", "--wait=false")


def dial(address: str, port: int, mark: int) -> bool:
    """Try to connect from the host."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as fresh:
        fresh.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        fresh.settimeout(DIAL_SECONDS)
        try:
            fresh.connect((address, port))
        except OSError:
            return False
    return True


def test_nothing_outside_reaches_api_server_kubelet_pod_or_service(
    cluster: Cluster, routed: int, served: tuple[str, str]
) -> None:
    """Each of them answers inside, and none answers the host, although it has a route."""
    pod, service = served
    address = cluster.network.address
    targets = [(address, API_PORT), (address, 10250), (pod, 8080), (service, 8080)]
    for target, port in targets:
        connect(cluster.netns, target, port).close()
    assert [target for target in targets if dial(*target, routed)] == []


def test_a_port_opened_on_purpose_is_the_only_way_in(cluster: Cluster, routed: int, served: tuple[str, str]) -> None:
    """A cluster that hosts a relay offers its NodePort, and still nothing else."""
    patch = {"spec": {"type": "NodePort", "ports": [{"port": 8080, "nodePort": 31999}]}}
    cluster.kubectl("--namespace=isolation", "patch", "service", "served", f"--patch={json.dumps(patch)}")
    wait_until(lambda: _answers(cluster, cluster.network.address, 31999), "the NodePort inside")
    assert not dial(cluster.network.address, 31999, routed)
    cluster.open_inwards(31999)
    wait_until(lambda: dial(cluster.network.address, 31999, routed), "the NodePort from the host")
    assert not dial(served[0], 8080, routed)
    assert not dial(cluster.network.address, API_PORT, routed)


def test_process_and_pod_reach_allowed_ports_outside_and_no_others(cluster: Cluster, served: tuple[str, str]) -> None:
    """The relay's port is open to both once allowed; another port there, and any other address, refuse at once."""
    with socket.create_server((OUTSIDE_ADDRESS, 0)) as allowed, socket.create_server((OUTSIDE_ADDRESS, 0)) as closed:
        ports = allowed.getsockname()[1], closed.getsockname()[1]
        assert not _answers(cluster, OUTSIDE_ADDRESS, ports[0])
        cluster.allow(ports[0])
        wait_until(lambda: _answers(cluster, OUTSIDE_ADDRESS, ports[0]), "the allowed port from a process")
        wait_until(lambda: _pod_dials(cluster, f"{OUTSIDE_ADDRESS}:{ports[0]}"), "the allowed port from a pod")
        assert not _answers(cluster, OUTSIDE_ADDRESS, ports[1])
        assert not _pod_dials(cluster, f"{OUTSIDE_ADDRESS}:{ports[1]}")
    # The host's own end of the link, and a way out that does not exist.
    host_end = cluster.network.address.rpartition(".")[0] + ".1"
    assert not _answers(cluster, host_end, 22)
    assert "default" not in cluster.run(["ip", "route"])


def test_a_firewall_that_was_lost_is_noticed(control_plane: Cluster) -> None:
    """The probe that guards every start fails when rules are gone; afterwards they are as before."""
    rules = control_plane.run(["nft", "list", "table", "inet", "fairlead"])
    control_plane.network.probe()
    control_plane.run(["nft", "flush", "chain", "inet", "fairlead", "input"])
    try:
        with pytest.raises(NotIsolated):
            control_plane.network.probe()
    finally:
        restored = "delete table inet fairlead\n" + rules
        subprocess.run(
            ["nsenter", f"--net={control_plane.netns}", "nft", "-f", "-"], input=restored, text=True, check=True
        )
    control_plane.network.probe()


async def test_aiohttp_works_from_the_host_by_sockets_made_inside(control_plane: Cluster) -> None:
    """A client with our socket factory reads as the ServiceAccount it has a token of; without it, it gets nowhere."""
    context = ssl.create_default_context(cafile=control_plane.ca_file)
    headers = {"Authorization": f"Bearer {control_plane.token('default', 'default')}"}
    connector = aiohttp.TCPConnector(ssl=context, socket_factory=socket_factory(control_plane.netns))
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        async with session.get(f"{control_plane.server}/version") as answer:
            assert (await answer.json())["minor"] == "37"
        async with session.get(f"{control_plane.server}/api/v1/nodes") as answer:
            assert answer.status == 403
    timeout = aiohttp.ClientTimeout(sock_connect=DIAL_SECONDS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), timeout=timeout) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"{control_plane.server}/version")


def test_the_official_client_works_in_a_thread_that_went_inside(control_plane: Cluster) -> None:
    """It needs no patch, and the calling thread stays where it was."""

    def names() -> list[str]:
        client = kubernetes.config.new_client_from_config(str(control_plane.kubeconfig))  # type: ignore[no-untyped-call]
        found = kubernetes.client.CoreV1Api(client).list_namespace().items
        return [entry.metadata.name for entry in found if entry.metadata and entry.metadata.name]

    assert "kube-system" in call_inside(control_plane.netns, names)
    assert not dial(control_plane.network.address, API_PORT, 0)


def test_the_control_plane_is_configured_as_a_careful_operator_would(control_plane: Cluster) -> None:
    """RBAC, NodeRestriction, Pod Security and the audit log are on."""
    assert control_plane.kubectl("--as=somebody", "get", "secrets", check=False).returncode != 0
    privileged = json.dumps(
        {"spec": {"containers": [{"name": "a", "image": "a", "securityContext": {"privileged": True}}]}}
    )
    refused = control_plane.kubectl("run", "a", "--image=a", f"--overrides={privileged}", check=False)
    assert 'violates PodSecurity "baseline' in refused.stderr
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "another"}}
    identity = ["--as=system:node:mine", "--as-group=system:nodes"]
    refused = control_plane.kubectl(*identity, "create", "-f", "-", input=json.dumps(node), check=False)
    assert "is not allowed to modify node" in refused.stderr
    events = [json.loads(line) for line in control_plane.audit_log.read_text().splitlines()]
    assert any(event["user"]["username"] == "kubernetes-admin" and event["verb"] == "create" for event in events)


def _answers(cluster: Cluster, address: str, port: int) -> bool:
    """Try to connect from inside, as a process of the cluster."""
    try:
        connect(cluster.netns, address, port, seconds=DIAL_SECONDS).close()
    except OSError:
        return False
    return True


def _pod_dials(cluster: Cluster, target: str) -> bool:
    """Try to connect from a pod."""
    command = ["exec", "served", "--", "/probe", "dial", "-timeout=1s", target]
    return cluster.kubectl("--namespace=isolation", *command, check=False).returncode == 0
