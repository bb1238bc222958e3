"""
Where the demo runs: two clusters of tests/cluster made for it, or one of the user's own, named by DEMO_CONTEXT.

Both give the same few things: how kubectl and helm reach relay and agent, where images are pulled from, at which
addresses the relay is found, and namespaces that are the demo's alone. Must not: take a cluster that was not named; a
KUBECONFIG that happens to be set is ignored.
"""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster import cgroups
from tests.cluster.cluster import Cluster
from tests.cluster.commands import run
from tests.cluster.debian import ensure_packages
from tests.cluster.demo_images import demo_images
from tests.cluster.network import OUTSIDE_ADDRESS
from tests.cluster.record import Record, reap_dead
from tests.cluster.registry import Registry
from tests.demo.narration import DemoFailed
from tests.product.images import product_image
from tests.product.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.cluster.images import BuiltImage
    from tests.demo.narration import Narrator

_COPY_SECONDS = 300.0
_NAMESPACE_SECONDS = 120.0
_API_NODE_PORT, _AGENTS_NODE_PORT = 31443, 31444
"""Where the node of the relay's cluster offers its two ports, from Kubernetes' range for NodePorts."""


@dataclass(frozen=True, kw_only=True)
class Home:
    """What the demo has on this machine: files, processes and a registry, all written down in one record."""

    record: Record
    """Clears everything, also after a SIGKILL."""
    group: Path
    """Control group of its processes."""
    registry: Registry
    """Holds every image the demo builds."""
    directory: Path
    """The user's directory for the time of the demo."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one of the charts is installed."""

    target: Target
    """How kubectl and helm reach its cluster."""
    cluster: Cluster | None
    """The cluster, where it is the demo's; None for the user's."""
    namespace: str
    """Its namespace."""
    values: Mapping[str, object]
    """The chart's values that depend on the cluster."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Clusters that are ready for a relay and an agent."""

    relay: Place
    """The relay's."""
    agent: Place
    """The agent's; in the user's cluster both are beside each other."""
    registry: str
    """Where images are pulled from: host and port, or with a path."""
    api_url: str
    """Where people reach the relay; of the user's cluster once its API's port is forwarded."""
    agent_url: str
    """Where agents dial the relay."""
    namespace: str
    """Namespace of the application."""

    @property
    def is_private(self) -> bool:
        """Whether nothing can dial into the agent's cluster."""
        return self.agent.cluster is not None


@contextmanager
def open_home() -> Iterator[Home]:
    """Make the demo's home; all of it is gone when the block ends."""
    reap_dead()
    record = Record.create(f"demo-{os.getpid()}-home")
    try:
        group = cgroups.process_group(record.name)
        record.note("cgroup", path=str(group))
        cgroups.make(group)
        directory = record.directory / "work"
        directory.mkdir(mode=0o700)
        yield Home(record=record, group=group, registry=Registry.serve(record, group), directory=directory)
    finally:
        record.clear()


@contextmanager
def private_clusters(home: Home) -> Iterator[Ground]:
    """Bring up a cluster for the relay and one that nothing can dial into; both are down when the block ends."""
    with _cluster(home, f"demo-{os.getpid()}-relay") as hosting, _cluster(home, f"demo-{os.getpid()}") as private:
        hosting.open_inwards(_API_NODE_PORT)
        agents_port = hosting.forward(_AGENTS_NODE_PORT)
        private.allow(agents_port)
        api_url = f"https://{hosting.network.address}:{_API_NODE_PORT}"
        agent_url = f"wss://{OUTSIDE_ADDRESS}:{agents_port}"
        relay, agent, _ = _images(home)
        yield Ground(
            relay=Place(
                target=Target.of_cluster(hosting),
                cluster=hosting,
                namespace="fairlead",
                values={
                    "image": _pinned(home.registry.address, relay),
                    "api": {"url": api_url, "service": {"type": "NodePort", "nodePort": _API_NODE_PORT}},
                    "agents": {"url": agent_url, "service": {"type": "NodePort", "nodePort": _AGENTS_NODE_PORT}},
                },
            ),
            agent=Place(
                target=Target.of_cluster(private),
                cluster=private,
                namespace="fairlead",
                values={"image": _pinned(home.registry.address, agent)},
            ),
            registry=home.registry.address,
            api_url=api_url,
            agent_url=agent_url,
            namespace="harbour",
        )


@contextmanager
def users_cluster(home: Home, context: str, environment: Mapping[str, str], narrator: Narrator) -> Iterator[Ground]:
    """
    Use a cluster of the user's, in namespaces of its own, which are deleted when the block ends.

    Args:
        home: The demo's files and registry.
        context: Name in the user's kubeconfig.
        environment: `DEMO_REGISTRY` says where images are pushed for that cluster to pull (`http://` before it for one
            without TLS).
        narrator: Names the cluster before anything is done to it.
    Raises:
        DemoFailed: A setting is missing, or the context is unknown.
        CommandFailed: The cluster or the registry refused something.
    """
    target = Target.of_context(context)
    server = target.kubectl("config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}").strip()
    suffix = secrets.token_hex(3)
    relay_namespace, agent_namespace, namespace = (
        f"{name}-demo-{suffix}" for name in ("fairlead-relay", "fairlead", "harbour")
    )
    narrator.say(
        f"context {context} at {server}, with the new namespaces {relay_namespace}, {agent_namespace} and {namespace}"
    )
    registry = environment.get("DEMO_REGISTRY", "").removeprefix("http://")
    if not registry:
        raise DemoFailed("set DEMO_REGISTRY to a registry that this machine can push to and your cluster can pull from")
    relay, agent, others = _images(home)
    _copy([relay, agent, *others], registry, insecure=environment["DEMO_REGISTRY"].startswith("http://"))
    api_url = f"https://127.0.0.1:{_free_port()}"
    try:
        yield Ground(
            relay=Place(
                target=target,
                cluster=None,
                namespace=relay_namespace,
                values={"image": _pinned(registry, relay), "api": {"url": api_url}},
            ),
            agent=Place(
                target=target, cluster=None, namespace=agent_namespace, values={"image": _pinned(registry, agent)}
            ),
            registry=registry,
            api_url=api_url,
            # The name of the chart's Service: agent and relay are neighbours here.
            agent_url=f"wss://fairlead-relay-agents.{relay_namespace}.svc:7444",
            namespace=namespace,
        )
    finally:
        for name in (namespace, agent_namespace, relay_namespace):
            target.kubectl("delete", "namespace", name, "--ignore-not-found", seconds=_NAMESPACE_SECONDS)


@contextmanager
def _cluster(home: Home, name: str) -> Iterator[Cluster]:
    cluster = Cluster.up(name, nodes=1)
    try:
        home.registry.admit(cluster)
        yield cluster
    finally:
        cluster.down()


def _images(home: Home) -> tuple[BuiltImage, BuiltImage, list[BuiltImage]]:
    """Return the images of relay, agent and application."""
    relay, agent = (product_image(home.registry, member) for member in ("relay", "agent"))
    return relay, agent, list(demo_images(home.registry).values())


def _pinned(registry: str, image: BuiltImage) -> dict[str, str]:
    return {"repository": f"{registry}/{image.repository}", "digest": image.digest}


def _copy(images: list[BuiltImage], registry: str, *, insecure: bool) -> None:
    ensure_packages(["skopeo"])
    options = ["--quiet", "--preserve-digests", "--src-tls-verify=false"]
    options += ["--dest-tls-verify=false"] if insecure else []
    for image in images:
        target = f"docker://{registry}/{image.repository}:{image.tag}"
        run(["skopeo", "copy", *options, f"docker://{image.reference}", target], seconds=_COPY_SECONDS)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
