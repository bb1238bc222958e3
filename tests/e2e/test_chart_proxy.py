"""The agent as its chart installs it, in a cluster with no way out but a proxy: a plain one, and one that inspects."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fairlead_agent.dialling import Dialler
from fairlead_agent.errors import ConnectFailed
from tests.cluster.access import call_inside
from tests.cluster.network import OUTSIDE_ADDRESS
from tests.e2e.chart_installation import namespace
from tests.e2e.inspected_relay import inspected_relay
from tests.e2e.inspecting_squid import RELAY_HOST, inspecting_squid
from tests.e2e.tinyproxy import PASSWORD, tinyproxy
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import RelayProcess
from tests.polling import wait_until
from tests.product.images import product_image
from tests.product.target import Target

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster
    from tests.cluster.registry import Registry

RELEASE_NAMESPACE = "proxied-fairlead"
NAMESPACE = "proxied-shop"


@pytest.fixture(scope="module")
def relay(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """Run a relay outside, which the proxies reach and the cluster does not."""
    assert cluster.outside_address == OUTSIDE_ADDRESS
    with inspected_relay(tmp_path_factory.mktemp("relay") / "data") as running:
        yield running


@dataclass
class Pod:
    """The agent's release, and the tenant that it serves."""

    target: Target
    tenant: Tenant
    values: dict[str, Any]

    def install(self, relay_url: str, proxy: dict[str, Any], password_url: str) -> None:
        """Install the chart; returns when the pod is ready, which means connected."""
        secrets = {"enrolment": {"token": self.tenant.enrolment_token}, "proxy": {"url": password_url}}
        for name, content in secrets.items():
            encoded = {key: base64.b64encode(value.encode()).decode() for key, value in content.items()}
            metadata = {"name": name, "namespace": RELEASE_NAMESPACE}
            self.target.apply([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}])
        values = self.values | {"relay": {"url": relay_url}, "proxy": proxy | {"existingSecret": "proxy"}}
        self.target.install("fairlead-agent", "fairlead-agent", RELEASE_NAMESPACE, values)

    def deploy(self) -> None:
        """Deploy ConfigMaps and see them in the cluster."""
        bundle = config_maps(3, NAMESPACE)
        upload(self.tenant.deployer, self.tenant.organization, bundle)
        environment = f"{self.tenant.path}/applications/shop/environments/proxied"
        made = deploy(self.tenant.deployer, environment, bundle)
        path = f"{self.tenant.path}/deployments/{made['id']}"
        wait_until(lambda: bool(self.tenant.deployer.ask("GET", path)["finished_at"]), "the deployment to end")
        assert self.tenant.deployer.ask("GET", path)["outcome"] == "succeeded"
        found = self.target.kubectl("--namespace", NAMESPACE, "get", "configmaps", "--output=name").split()
        assert len([name for name in found if "kube-root-ca" not in name]) == 3

    def doctor(self) -> list[dict[str, Any]]:
        """Run the doctor in the pod; returns the hops it found, all well."""
        inside = ("--namespace", RELEASE_NAMESPACE, "exec", "deployment/fairlead-agent", "--")
        shown = json.loads(self.target.kubectl(*inside, "fairlead-agent", "doctor", "-o", "json"))
        assert shown["well"], shown
        hops: list[dict[str, Any]] = shown["hops"]
        return hops


@pytest.fixture
def pod(cluster: Cluster, registry: Registry, relay: RelayProcess) -> Iterator[Pod]:
    """Prepare namespaces and values, and take all away at the end."""
    registry.admit(cluster)
    target = Target.of_cluster(cluster)
    tenant = make_tenant(relay)
    place = {"name": "proxied", "type": "staging", "cluster": "harbour", "namespace": NAMESPACE}
    tenant.admin.ask("POST", f"{tenant.path}/applications/shop/environments", place, 201)
    environment = {"organization": tenant.organization, "application": "shop", "environment": "proxied"}
    image = product_image(registry, "agent")
    values = {
        "enrolment": {"existingSecret": "enrolment"},
        "image": {"repository": f"{registry.address}/{image.repository}", "digest": image.digest},
        "policy": {"bindings": [{"namespace": NAMESPACE, "environments": [environment | {"type": "staging"}]}]},
    }
    target.apply([namespace(RELEASE_NAMESPACE), namespace(NAMESPACE)])
    yield Pod(target, tenant, values)
    target.kubectl("delete", "namespace", RELEASE_NAMESPACE, NAMESPACE, "--wait=true")


def assert_shut(cluster: Cluster, relay: RelayProcess) -> None:
    """Hold that the cluster's network lets nobody dial the relay."""
    straight = Dialler(f"wss://{OUTSIDE_ADDRESS}:{relay.agent_port}")
    with pytest.raises(ConnectFailed) as shut:
        call_inside(cluster.netns, asyncio.run, straight.connect())
    assert shut.value.hop == "TCP"


def test_a_pod_behind_a_proxy_with_a_password(cluster: Cluster, relay: RelayProcess, pod: Pod, tmp_path: Path) -> None:
    """Enrolment, session and a deployment go through its tunnels; the password is in a Secret alone."""
    address = f"{OUTSIDE_ADDRESS}:{relay.agent_port}"
    with tinyproxy(tmp_path) as proxy:
        cluster.allow(proxy.port)
        pod.install(f"wss://{address}", {}, proxy.url())
        pod.deploy()
        assert_shut(cluster, relay)
        assert proxy.tunnels(address) >= 3
        assert "proxy" in [hop["hop"] for hop in pod.doctor()]
        shown = pod.target.kubectl("--namespace", RELEASE_NAMESPACE, "get", "deployments,pods,configmaps", "-o", "yaml")
        assert PASSWORD not in shown
        assert PASSWORD not in pod.target.kubectl("--namespace", RELEASE_NAMESPACE, "logs", "deployment/fairlead-agent")


def test_a_pod_behind_tls_inspection(cluster: Cluster, relay: RelayProcess, pod: Pod) -> None:
    """By the values of the chart alone: the network owner's CA in a ConfigMap, and the operator's leave."""
    with inspecting_squid(relay.ca_file, bears_websockets=False) as squid:
        cluster.allow(squid.port)
        metadata = {"name": "owner", "namespace": RELEASE_NAMESPACE}
        content = {"ca.crt": squid.ca_file.read_text()}
        pod.target.apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": content}])
        proxy = {"caConfigMap": "owner", "tlsInspection": True}
        pod.install(f"wss://{RELAY_HOST}:{relay.agent_port}", proxy, squid.url)
        pod.deploy()
        assert_shut(cluster, relay)
        assert [hop["found"] for hop in pod.doctor() if hop["hop"] == "TLS"][-1].startswith("inside")
        assert any("/poll/inner-tls" in request for request in squid.requests())
