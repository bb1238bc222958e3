"""
Fairlead installed as people install it: the relay by its chart in one cluster, the agent by its chart in another.

Both run their real images as pods under Pod Security `restricted`. The agents' port of the relay is reached through a
TCP forwarder on the outside address, as a load balancer that passes TLS through would have it. Must not: reach into
pods for anything but the commands that the charts' notes name.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.images import probe_image_tar
from tests.polling import PATIENCE_SECONDS, wait_until
from tests.product.images import PREVIOUS, Member, product_image
from tests.product.target import Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.cluster.cluster import Cluster
    from tests.cluster.registry import Registry

ORGANIZATION = "acme"
RELEASE_NAMESPACE = "charts-fairlead"
NAMESPACE = "charts-shop"
"""The application's namespace in the agent's cluster."""
_CLI_SECONDS = 240.0
_PROBE_REPOSITORY = "fairlead-test/probe"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an installation is, and what kind of relay it has, so that several can be in the same two clusters."""

    namespace: str = NAMESPACE
    release_namespace: str = RELEASE_NAMESPACE
    api_node_port: int = 31443
    agent_node_port: int = 31444
    relay_kind: str = "statefulset"
    """What its relay's pods belong to."""
    relay_values: Mapping[str, Any] = field(default_factory=dict)
    """Values of the relay's chart beyond its addresses and its image."""
    relay_objects: Sequence[Mapping[str, Any]] = ()
    """What these values name, such as Secrets."""


_SHARED = Place()
"""Of the test of both charts."""


@dataclass(frozen=True, kw_only=True)
class ChartInstallation:
    """Relay and agent, installed and connected, with application shop and environment shop/staging."""

    relay: Target
    """The relay's cluster."""
    agent: Target
    """The agent's cluster, which nothing can dial into."""
    probe_image: str
    """A small server for the deployments of tests."""
    directory: Path
    """Configuration of `fairlead`, and files to deploy."""
    registry: Registry
    """Where both clusters pull from."""
    namespace: str = NAMESPACE
    """The application's, in the agent's cluster."""
    release_namespace: str = RELEASE_NAMESPACE
    """That of both releases, each in its cluster."""
    values: dict[Member, dict[str, Any]] = field(default_factory=dict)
    """The values of both releases, but for their images."""

    def release(self, member: Member, *, previous: bool = False) -> None:
        """Install a member, or upgrade it to this checkout's chart and image; or to those of the version before."""
        image = product_image(self.registry, member, previous=previous)
        place = {"repository": f"{self.registry.address}/{image.repository}", "digest": image.digest}
        (packaged,) = PREVIOUS.glob(f"fairlead-{member}-*.tgz")
        chart = packaged if previous else f"fairlead-{member}"
        target = self.agent if member == "agent" else self.relay
        target.install(f"fairlead-{member}", chart, self.release_namespace, self.values[member] | {"image": place})

    def uninstall(self) -> None:
        """Uninstall both, so that their pods do not go on beside the tests that follow."""
        for name, target in (("fairlead-agent", self.agent), ("fairlead-relay", self.relay)):
            target.helm("uninstall", name, "--namespace", self.release_namespace)

    def fairlead(self, *arguments: str, stdin: str = "", exits: int = 0) -> str:
        """Run `fairlead`, hold that it ends with this code, and return its output, or its errors if it is to fail."""
        finished = subprocess.run(
            [str(Path(sys.prefix) / "bin" / "fairlead"), *arguments],
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], "FAIRLEAD_CONFIG": str(self.directory / "config.yaml"), "NO_COLOR": "1"},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_CLI_SECONDS,
        )
        assert finished.returncode == exits, f"{arguments}: {finished.stdout}\n{finished.stderr}\n{self.agent_log()}"
        return finished.stderr if exits else finished.stdout

    def write(self, name: str, *manifests: dict[str, Any]) -> str:
        """Write manifests to a file; returns its name for `deploy -f`."""
        (self.directory / name).write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))
        return name

    def server(self, name: str, *, answer: str = "ok", ready_after_seconds: int = 0) -> dict[str, Any]:
        """Return a Deployment of one pod that serves, and is ready only after a while."""
        container = {
            "name": "probe",
            "image": self.probe_image,
            "args": ["serve", f"-answer={answer}"],
            "readinessProbe": {
                "httpGet": {"path": "/", "port": 8080},
                "initialDelaySeconds": ready_after_seconds,
                "periodSeconds": 1,
            },
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
        labels = {"app": name}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }

    def begin(self, file: str) -> str:
        """Deploy and return the deployment's id at once."""
        shown = json.loads(self.fairlead("deploy", "-f", file, "--env", "shop/staging", "-o", "json"))
        return str(shown["id"])

    def deployment(self, deployment_id: str) -> dict[str, Any]:
        """Return a deployment as `fairlead` shows it."""
        shown: dict[str, Any] = json.loads(self.fairlead("deployments", "show", deployment_id, "-o", "json"))
        return shown

    def events(self, deployment_id: str) -> list[dict[str, Any]]:
        """Return the agent's events of a deployment, oldest first."""
        lines = self.fairlead("events", deployment_id, "-o", "json").splitlines()
        return [record["event"] for record in map(json.loads, lines) if record["event"]["type"] != "job"]

    def await_event(self, deployment_id: str, key: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the relay has an event with this key."""
        wait_until(
            lambda: any(event["key"] == key for event in self.events(deployment_id)), f"the event {key}", seconds
        )

    def await_state(self, deployment_id: str, state: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait until a deployment is in a state, and return it."""
        wait_until(lambda: self.deployment(deployment_id)["state"] == state, f"{deployment_id} to be {state}", seconds)
        return self.deployment(deployment_id)

    def live(self, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
        """Return an object of the agent's cluster, of the application's namespace unless another is named."""
        text = self.agent.kubectl("--namespace", namespace or self.namespace, "get", kind, name, "--output=json")
        found: dict[str, Any] = json.loads(text)
        return found

    def identity(self) -> tuple[str, str]:
        """Return what makes the agent the same: its Secret's UID, and the fingerprint of its sealing key."""
        uid = self.live("secret", "fairlead-agent-identity", self.release_namespace)["metadata"]["uid"]
        shown = json.loads(self.fairlead("cluster", "show", "blue", "-o", "json"))
        return uid, shown["agent"]["sealing_key"]["fingerprint"]

    def agent_pod(self) -> dict[str, Any]:
        """Return the agent's pod; there is one."""
        (running,) = self.agent_pods()
        return running

    def agent_pods(self) -> list[dict[str, Any]]:
        """Return the pods of all replicas, without those that go."""
        selector = "--selector=app.kubernetes.io/name=fairlead-agent"
        text = self.agent.kubectl("--namespace", self.release_namespace, "get", "pods", selector, "--output=json")
        pods: list[dict[str, Any]] = json.loads(text)["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def agent_log(self) -> str:
        """Return the end of the agent's log, or why it cannot be had."""
        argv = [*self.agent.prefix, str(self.agent.kubectl_program), *self.agent.kubectl_options]
        argv += ["--namespace", self.release_namespace, "logs", "deployment/fairlead-agent", "--tail=20"]
        finished = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
        return finished.stdout + finished.stderr


def install_charts(
    relay_cluster: Cluster,
    agent_cluster: Cluster,
    registry: Registry,
    directory: Path,
    *,
    previous: bool = False,
    place: Place = _SHARED,
) -> ChartInstallation:
    """
    Install both charts and connect them.

    Args:
        relay_cluster: With a real node; its relay's ports are opened.
        agent_cluster: With a real node.
        registry: For the images; both clusters are admitted.
        directory: For files of `fairlead`.
        previous: Install the version before: its charts and its images.
        place: Where, beside other installations in the same clusters.
    Returns: The installation, its agent connected.
    """
    for cluster in (relay_cluster, agent_cluster):
        registry.admit(cluster)
    installation = ChartInstallation(
        relay=Target.of_cluster(relay_cluster),
        agent=Target.of_cluster(agent_cluster),
        probe_image=registry.push(probe_image_tar(), _PROBE_REPOSITORY, "1"),
        directory=directory,
        registry=registry,
        namespace=place.namespace,
        release_namespace=place.release_namespace,
    )
    agent_port = relay_cluster.forward(place.agent_node_port)
    agent_cluster.allow(agent_port)
    agent_url = f"wss://{agent_cluster.outside_address}:{agent_port}"
    _install_relay(installation, relay_cluster, agent_url, place, previous=previous)
    made = json.loads(installation.fairlead("cluster", "create", "blue", "-o", "json"))
    assert made["agent_url"] == agent_url
    _install_agent(installation, made["token"], agent_url, previous=previous)
    installation.fairlead("app", "create", "shop")
    environment = ["--type", "staging", "--cluster", "blue", "--namespace", place.namespace]
    installation.fairlead("env", "create", "shop/staging", *environment)
    return installation


def _install_agent(installation: ChartInstallation, token: str, agent_url: str, *, previous: bool) -> None:
    """Install the agent with a token in a Secret, and wait until it is connected: that is what ready means."""
    target = installation.agent
    target.apply([namespace(installation.release_namespace), namespace(installation.namespace)])
    metadata = {"name": "enrolment", "namespace": installation.release_namespace}
    content = {"token": base64.b64encode(token.encode()).decode()}
    target.apply([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": content}])
    environment = {"organization": ORGANIZATION, "application": "shop", "environment": "staging", "type": "staging"}
    installation.values["agent"] = {
        "relay": {"url": agent_url},
        "enrolment": {"existingSecret": "enrolment"},
        "policy": {"bindings": [{"namespace": installation.namespace, "environments": [environment]}]},
    }
    installation.release("agent", previous=previous)


def namespace(name: str) -> dict[str, Any]:
    """Return a namespace that admits only pods of Pod Security level `restricted`."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _install_relay(
    installation: ChartInstallation, cluster: Cluster, agent_url: str, place: Place, *, previous: bool
) -> None:
    target = installation.relay
    cluster.open_inwards(place.api_node_port)
    api_url = f"https://{cluster.network.address}:{place.api_node_port}"
    installation.values["relay"] = {
        "api": {"url": api_url, "service": {"type": "NodePort", "nodePort": place.api_node_port}},
        "agents": {"url": agent_url, "service": {"type": "NodePort", "nodePort": place.agent_node_port}},
        **place.relay_values,
    }
    target.apply([namespace(place.release_namespace), *place.relay_objects])
    installation.release("relay", previous=previous)
    pod = f"{place.relay_kind}/fairlead-relay"
    inside = ("--namespace", place.release_namespace, "exec", pod, "--", "fairlead-relay")
    (installation.directory / "ca.pem").write_text(target.kubectl(*inside, "ca", "show"))
    token = target.kubectl(*inside, "token", "create", "--organization", ORGANIZATION, "--role", "admin")
    installation.fairlead("login", api_url, "--ca-file", "ca.pem", stdin=token)
