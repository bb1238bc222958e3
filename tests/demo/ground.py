"""
Where the demo runs: a private cluster of tests/cluster made for it, or the user's own, named by DEMO_CONTEXT.

Both give the same few things: how kubectl and helm reach the cluster, where it pulls images from, at which address of
this machine it finds the relay, and namespaces that are the demo's alone. Must not: take a cluster that was not named;
a KUBECONFIG that happens to be set is ignored.
"""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

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
_ELSEWHERE = "192.0.2.1"
"""An address of the documentation range: asking for the route to it tells which address faces the network."""


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
class Ground:
    """A cluster, ready for an agent."""

    target: Target
    """How kubectl and helm reach it."""
    cluster: Cluster | None
    """The private cluster; None for one of the user's."""
    registry: str
    """Where it pulls images: host and port, or with a path."""
    agent_image: Mapping[str, str]
    """The chart's values `image`."""
    relay_address: str
    """Address of this machine at which its pods reach the relay."""
    agent_namespace: str
    """Namespace of the agent."""
    namespace: str
    """Namespace of the application."""


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
def private_cluster(home: Home) -> Iterator[Ground]:
    """Bring up a cluster that nothing can dial into; it is down when the block ends."""
    cluster = Cluster.up(f"demo-{os.getpid()}", nodes=1)
    try:
        home.registry.admit(cluster)
        agent, _ = _images(home)
        yield Ground(
            target=Target.of_cluster(cluster),
            cluster=cluster,
            registry=home.registry.address,
            agent_image={"repository": f"{home.registry.address}/{agent.repository}", "digest": agent.digest},
            relay_address=OUTSIDE_ADDRESS,
            agent_namespace="fairlead",
            namespace="harbour",
        )
    finally:
        cluster.down()


@contextmanager
def users_cluster(home: Home, context: str, environment: Mapping[str, str], narrator: Narrator) -> Iterator[Ground]:
    """
    Use a cluster of the user's, in namespaces of its own, which are deleted when the block ends.

    Args:
        home: The demo's files and registry.
        context: Name in the user's kubeconfig.
        environment: `DEMO_REGISTRY` says where images are pushed for that cluster to pull (`http://` before it for one
            without TLS); `DEMO_ADDRESS`, if set, at which address of this machine its pods reach the relay.
        narrator: Names the cluster before anything is done to it.
    Raises:
        DemoFailed: A setting is missing, or the context is unknown.
        CommandFailed: The cluster or the registry refused something.
    """
    target = Target.of_context(context)
    server = target.kubectl("config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}").strip()
    suffix = secrets.token_hex(3)
    agent_namespace, namespace = f"fairlead-demo-{suffix}", f"harbour-demo-{suffix}"
    narrator.say(f"context {context} at {server}, with the new namespaces {agent_namespace} and {namespace}")
    registry = environment.get("DEMO_REGISTRY", "").removeprefix("http://")
    if not registry:
        raise DemoFailed("set DEMO_REGISTRY to a registry that this machine can push to and your cluster can pull from")
    agent, others = _images(home)
    _copy([agent, *others], registry, insecure=environment["DEMO_REGISTRY"].startswith("http://"))
    try:
        yield Ground(
            target=target,
            cluster=None,
            registry=registry,
            agent_image={"repository": f"{registry}/{agent.repository}", "digest": agent.digest},
            relay_address=environment.get("DEMO_ADDRESS") or _address_towards(server),
            agent_namespace=agent_namespace,
            namespace=namespace,
        )
    finally:
        for name in (namespace, agent_namespace):
            target.kubectl("delete", "namespace", name, "--ignore-not-found", seconds=_NAMESPACE_SECONDS)


def _images(home: Home) -> tuple[BuiltImage, list[BuiltImage]]:
    return product_image(home.registry, "agent"), list(demo_images(home.registry).values())


def _copy(images: list[BuiltImage], registry: str, *, insecure: bool) -> None:
    ensure_packages(["skopeo"])
    options = ["--quiet", "--preserve-digests", "--src-tls-verify=false"]
    options += ["--dest-tls-verify=false"] if insecure else []
    for image in images:
        target = f"docker://{registry}/{image.repository}:{image.tag}"
        run(["skopeo", "copy", *options, f"docker://{image.reference}", target], seconds=_COPY_SECONDS)


def _address_towards(server: str) -> str:
    """Return this machine's address on the way to a cluster: no packet is sent, the routing table is asked."""
    host = urlsplit(server).hostname or _ELSEWHERE
    try:
        found = _route_source(host)
    except OSError:
        found = "127.0.0.1"
    # An API server on this machine's loopback, as kind has it, is reached by pods from outside.
    if found.startswith("127."):
        try:
            return _route_source(_ELSEWHERE)
        except OSError:
            raise DemoFailed("set DEMO_ADDRESS to this machine's address as your cluster's pods reach it") from None
    return found


def _route_source(host: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((host, 9))
        return str(asking.getsockname()[0])
