"""The relay's chart with two relays on a PostgreSQL, on two nodes: what an upgrade, a value's change, costs nobody."""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from tests.cluster.gateway import INGRESS_PORT, ensure_gateway
from tests.cluster.pki import Authority
from tests.conformance.postgresql import PostgresqlServer, running_postgresql
from tests.e2e.chart_installation import ORGANIZATION, ChartInstallation, Place, install_charts
from tests.polling import wait_until

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster
    from tests.cluster.registry import Registry

RELEASE = "replicas-fairlead"
RELAYS = 2
CONNECTIONS = 10
"""Of a relay to its database, as operate.md has it."""
READY_AFTER_SECONDS = 8
"""How long the pod of a slow deployment is not ready: it waits while relays come and go."""


def secret(name: str, content: dict[str, bytes]) -> dict[str, Any]:
    """Return a Secret for the relay."""
    told = {key: base64.b64encode(text).decode() for key, text in content.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": RELEASE}, "data": told}


@pytest.fixture(scope="module")
def server(relay_cluster: Cluster) -> Iterator[PostgresqlServer]:
    """Run a PostgreSQL beside the relays' cluster, which lets its nodes dial it."""
    with running_postgresql(address=relay_cluster.outside_address) as running:
        relay_cluster.allow(running.port)
        yield running


@pytest.fixture(scope="module")
def installed(
    relay_cluster: Cluster,
    cluster: Cluster,
    registry: Registry,
    server: PostgresqlServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ChartInstallation]:
    """Install two relays, whose authority is in a Secret and whose database is beside the cluster, and an agent."""
    folder = tmp_path_factory.mktemp("replicas")
    program = Path(sys.prefix) / "bin" / "fairlead-relay"
    show = [str(program), "ca", "show", "--data-dir", str(folder / "authority")]
    subprocess.run(show, check=True, capture_output=True, timeout=60)
    names = ("root.pem", "issuing.pem", "issuing.key", "signer.key")
    authority = {name: (folder / "authority" / "pki" / name).read_bytes() for name in names}
    place = Place(
        namespace="replicas-shop",
        release_namespace=RELEASE,
        api_node_port=31643,
        agent_node_port=31644,
        relay_kind="deployment",
        relay_values={
            "replicas": RELAYS,
            "database": {"existingSecret": "database"},
            "ca": {"existingSecret": "authority"},
            "networkPolicy": {"databasePorts": [server.port]},
        },
        relay_objects=[
            secret("database", {"url": server.make_remote_database(secrets.token_urlsafe(16)).encode()}),
            secret("authority", authority),
        ],
    )
    made = install_charts(relay_cluster, cluster, registry, folder, place=place)
    yield made
    made.uninstall()


def relay_pods(installed: ChartInstallation) -> list[dict[str, Any]]:
    """Return the relays' pods, without those that go."""
    selector = "--selector=app.kubernetes.io/name=fairlead-relay"
    text = installed.relay.kubectl("--namespace", RELEASE, "get", "pods", selector, "--output=json")
    return [pod for pod in json.loads(text)["items"] if "deletionTimestamp" not in pod["metadata"]]


class Caller:
    """Makes one call after the other by the command, as a CI does, from its making until it is asked for its tally."""

    def __init__(self, installed: ChartInstallation) -> None:
        self._installed = installed
        self._enough = threading.Event()
        self._failures: list[str] = []
        self._calls = 0
        self._thread = threading.Thread(target=self._call, name="caller")
        self._thread.start()

    def _call(self) -> None:
        while not self._enough.is_set():
            try:
                self._installed.fairlead("env", "list", "shop", "-o", "name")
            except AssertionError as failure:
                self._failures.append(str(failure))
            self._calls += 1

    def end(self) -> tuple[int, list[str]]:
        """Return how many calls were made, and what the failed ones said."""
        self._enough.set()
        self._thread.join()
        return self._calls, self._failures


def test_they_are_on_two_nodes_and_either_serves_the_agent(
    installed: ChartInstallation, server: PostgresqlServer
) -> None:
    """Anti-affinity spreads them; what is asked of the Service is done whichever relay has the agent."""
    assert len({pod["spec"]["nodeName"] for pod in relay_pods(installed)}) == RELAYS
    file = installed.write("shop.json", installed.server("web"))
    installed.fairlead("deploy", "-f", file, "--env", "shop/staging", "--watch")
    assert installed.live("deployment", "web")["status"]["readyReplicas"] == 1
    with psycopg.connect(server.url("postgres")) as connection:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE client_addr IS NOT NULL"
        (count,) = connection.execute(asked).fetchone() or (0,)
    print(f"{RELAYS} relays have {count} connections to their database")
    assert RELAYS < count <= RELAYS * CONNECTIONS


def test_an_upgrade_while_a_deployment_runs_costs_nobody_anything(installed: ChartInstallation) -> None:
    """New pods serve before old ones end: the deployment's story is whole, once, and no command fails meanwhile."""
    before = {pod["metadata"]["uid"] for pod in relay_pods(installed)}
    slow = installed.server("slow", answer="upgraded", ready_after_seconds=READY_AFTER_SECONDS)
    deployment = installed.begin(installed.write("slow.json", installed.server("web"), slow))
    installed.await_event(deployment, "step/wait/started")
    caller = Caller(installed)
    try:
        installed.values["relay"]["logFormat"] = "console"
        installed.release("relay")
    finally:
        calls, failures = caller.end()
    assert failures == []
    assert calls > RELAYS
    after = {pod["metadata"]["uid"] for pod in relay_pods(installed)}
    assert len(after) == RELAYS
    assert not before & after
    ended = installed.await_state(deployment, "succeeded")
    assert ended["counts"] == {"created": 1, "unchanged": 1}
    assert ended["job"]["attempt"] == 1
    told = Counter(event["key"] for event in installed.events(deployment))
    assert {key: count for key, count in told.items() if count > 1} == {}
    for step in ("verify", "fetch", "preflight", "apply", "wait"):
        assert {f"step/{step}/started", f"step/{step}/finished"} <= set(told)
    wait_until(
        lambda: json.loads(installed.fairlead("cluster", "show", "blue", "-o", "json"))["state"] == "connected",
        "the agent to be at a new relay",
    )


@pytest.mark.builds("traefik")
def test_people_reach_the_api_by_an_ingress_and_a_gateway(
    installed: ChartInstallation, relay_cluster: Cluster, tmp_path: Path
) -> None:
    """Both speak HTTP to the relays; the Ingress ends TLS and lets streams pass, and agents stay where they are."""
    controller = ensure_gateway(relay_cluster)
    port = relay_cluster.forward(INGRESS_PORT, address="127.0.0.1")
    relay_cluster.open_inwards(controller.port)
    authority = Authority(tmp_path, "front")
    served = authority.issue("localhost", "localhost", names=["localhost"])
    front = secret("front", {"tls.crt": served.certificate.read_bytes(), "tls.key": served.key.read_bytes()})
    listener = {"name": "http", "protocol": "HTTP", "port": controller.port}
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "front", "namespace": RELEASE},
        "spec": {"gatewayClassName": controller.class_name, "listeners": [listener]},
    }
    installed.relay.apply([front | {"type": "kubernetes.io/tls"}, gateway])
    values = installed.values["relay"]
    values["api"] |= {"tls": False, "url": f"https://localhost:{port}"}
    ingress = {"enabled": True, "className": controller.class_name, "host": "localhost", "tlsSecret": "front"}
    route = {"enabled": True, "parentRefs": [{"name": "front"}], "hostnames": ["relay.example.test"]}
    values |= {"ingress": ingress, "httpRoute": route}
    installed.release("relay")
    trusting = ssl.create_default_context(cafile=str(authority.files.certificate))

    def is_served() -> bool:
        with suppress(httpx.ConnectError):  # the controller has a certificate of its own until it has seen this one
            return httpx.get(f"https://localhost:{port}/readyz", verify=trusting).status_code == httpx.codes.OK
        return False

    wait_until(is_served, "the Ingress to route to a relay")
    make = ("exec", "deployment/fairlead-relay", "--", "fairlead-relay", "token", "create", "--role", "admin")
    token = installed.relay.kubectl("--namespace", RELEASE, *make, "--organization", ORGANIZATION)
    login = ("login", f"https://localhost:{port}", "--ca-file", str(authority.files.certificate))
    installed.fairlead(*login, stdin=token)
    file = installed.write("shop.json", installed.server("web", answer="by the Ingress"))
    installed.fairlead("deploy", "-f", file, "--env", "shop/staging", "--watch")
    assert json.loads(installed.fairlead("cluster", "show", "blue", "-o", "json"))["state"] == "connected"
    through = f"http://{relay_cluster.network.address}:{controller.port}/readyz"
    wait_until(
        lambda: httpx.get(through, headers={"Host": "relay.example.test"}).status_code == httpx.codes.OK,
        "the Gateway to route to a relay",
    )
