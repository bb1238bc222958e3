"""The relay's chart with an authority of cert-manager's making: agents enrol under it, and outlive its renewal."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tests.cluster.certificates import ensure_cert_manager
from tests.e2e.chart_installation import ChartInstallation, Place, install_charts
from tests.polling import wait_until

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster
    from tests.cluster.registry import Registry

pytestmark = pytest.mark.builds("cert-manager")

RELEASE = "certified-fairlead"
ISSUING = "fairlead-relay-issuing"
PROJECTED_SECONDS = 240.0
"""How long it may take until a kubelet shows a pod what changed in a Secret, and the relay has seen it."""


@pytest.fixture(scope="module")
def installed(
    relay_cluster: Cluster, cluster: Cluster, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ChartInstallation]:
    """Install a relay whose root, issuing CA and signing key come from cert-manager, and an agent."""
    ensure_cert_manager(relay_cluster)
    place = Place(
        namespace="certified-shop",
        release_namespace=RELEASE,
        api_node_port=31743,
        agent_node_port=31744,
        relay_values={"ca": {"certManager": {"enabled": True}}},
    )
    made = install_charts(relay_cluster, cluster, registry, tmp_path_factory.mktemp("certified"), place=place)
    yield made
    made.uninstall()


def read(installed: ChartInstallation, kind: str, name: str) -> dict[str, Any]:
    """Return an object of the relay's namespace."""
    found: dict[str, Any] = json.loads(
        installed.relay.kubectl("--namespace", RELEASE, "get", kind, name, "--output=json")
    )
    return found


def issuing_certificate(installed: ChartInstallation) -> x509.Certificate:
    """Return the issuing CA's certificate, as cert-manager stored it."""
    stored = read(installed, "secret", ISSUING)["data"]["tls.crt"]
    return x509.load_pem_x509_certificate(base64.b64decode(stored))


def deploy(installed: ChartInstallation, answer: str) -> None:
    """Deploy something, and wait for its end."""
    file = installed.write("shop.json", installed.server("web", answer=answer))
    installed.fairlead("deploy", "-f", file, "--env", "shop/staging", "--watch")


def test_a_relay_and_its_agents_trust_what_cert_manager_made(installed: ChartInstallation) -> None:
    """The root that people and agents get is that of the Secret, and a statement is signed by the Secret's key."""
    stored = base64.b64decode(read(installed, "secret", "fairlead-relay-root")["data"]["tls.crt"])
    assert stored.strip() in (installed.directory / "ca.pem").read_bytes()
    deploy(installed, "certified")


def test_a_renewed_issuing_ca_costs_no_agent_its_connection(installed: ChartInstallation) -> None:
    """Cert-manager renews it with the same key; the relay takes it up while it serves."""
    before = issuing_certificate(installed)
    renewal = {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "as cmctl renew has it"}
    renewal["lastTransitionTime"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    status = read(installed, "certificate", ISSUING)["status"]
    patch = json.dumps({"status": {"conditions": [*status["conditions"], renewal]}})
    installed.relay.kubectl(
        *("--namespace", RELEASE, "patch", "certificate", ISSUING, "--subresource=status", "--type=merge"),
        f"--patch={patch}",
    )
    wait_until(lambda: issuing_certificate(installed).serial_number != before.serial_number, "the renewed certificate")
    assert issuing_certificate(installed).public_key() == before.public_key()
    wait_until(
        lambda: (
            "certificate authority changed"
            in installed.relay.kubectl("--namespace", RELEASE, "logs", "statefulset/fairlead-relay")
        ),
        "the relay to take up the renewed issuing CA",
        PROJECTED_SECONDS,
    )
    assert json.loads(installed.fairlead("cluster", "show", "blue", "-o", "json"))["state"] == "connected"
    deploy(installed, "renewed")
