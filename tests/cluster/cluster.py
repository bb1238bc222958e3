"""
One Kubernetes cluster in network namespaces of its own: the class tests, the demo and the command line share.

Must not: give anybody a way in. Tests reach the API server from inside the namespace (`kubectl`, `access.py`), and what
runs in the cluster reaches the outside address on allowed ports alone.
"""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING

from tests.cluster import cgroups
from tests.cluster.addons import add_fake_nodes, start_all
from tests.cluster.binaries import binary
from tests.cluster.commands import run
from tests.cluster.controlplane import ControlPlane, write_kubeconfig
from tests.cluster.debian import ensure_packages
from tests.cluster.errors import ClusterError
from tests.cluster.network import OUTSIDE_ADDRESS, Network
from tests.cluster.node import PACKAGES as NODE_PACKAGES
from tests.cluster.node import Node, ensure_inotify
from tests.cluster.process import Process, start
from tests.cluster.progress import step
from tests.cluster.record import Record, is_zombie, reap_dead, start_time
from tests.cluster.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_PACKAGES = ("iproute2", "nftables", "util-linux")
_KUBECTL_SECONDS = 120.0
"""Longest kubectl call; `kubectl wait` and friends get their own, shorter deadline by flag."""


class Cluster:
    """A cluster that is up; make one with `Cluster.up`, find a kept one with `Cluster.open`."""

    def __init__(self, record: Record) -> None:
        """Use `up` or `open`."""
        self._record = record
        self.network = Network(record=record)
        """Its namespaces and addresses."""
        self._group = cgroups.process_group(record.name)
        self._control_plane = ControlPlane(record.directory, self.netns, self.network.address, self.spawn)

    @classmethod
    def up(cls, name: str, *, nodes: int = 1, addons: Sequence[Callable[[Cluster], object]] = ()) -> Cluster:
        """
        Start a cluster; the calling process owns it until `down`, `keep` or its own end.

        Args:
            name: Name, unique on this machine: lower-case letters, digits, inner hyphens, at most 32.
            nodes: Number of real nodes; 0 for a control plane alone. With one or more, the cluster has DNS, volumes and
                enforced NetworkPolicies, too.
            addons: What else it starts with, such as `ensure_metrics` and `ensure_gateway`; later is fine, too.
        Returns: The cluster, its API server ready and its nodes Ready.
        Raises:
            NameTaken: A cluster of that name is up.
            NotReady: Something did not come up; nothing is left behind.
            ClusterError: The machine lacks something; the error says what.
        """
        reap_dead()
        record = Record.create(name)
        try:
            ensure_inotify(nodes)
            ensure_packages([*_PACKAGES, *(NODE_PACKAGES if nodes else ())])
            for program in ("kube-apiserver", *(("containerd", "pause", "coredns") if nodes else ())):
                binary(program)
            cluster = cls(record)
            with step(f"starting cluster {name}", 6 + 2 * nodes):
                cluster._start(nodes)
            for ensure in addons:
                ensure(cluster)
        except BaseException:
            record.clear()
            raise
        return cluster

    @classmethod
    def open(cls, name: str) -> Cluster:
        """
        Return a cluster that is up, whoever owns it.

        Raises: UnknownCluster: None of that name is up.
        """
        return cls(Record.open(name))

    def _start(self, nodes: int) -> None:
        self._record.note("cgroup", path=str(self._group))
        cgroups.make(self._group)
        self.network.make()
        fresh = [Node(index=index, record=self._record, network=self.network) for index in range(nodes)]
        for node in fresh:
            self._record.note("node", index=node.index)
        holders = [node.start_containerd() for node in fresh]
        authority = self._control_plane.up()
        for node, holder in zip(fresh, holders, strict=True):
            node.join(self._control_plane, authority, holder)
        for node in fresh:
            node.await_ready(self._control_plane)
        if nodes:
            start_all(self)

    @property
    def name(self) -> str:
        """Name, unique on this machine."""
        return self._record.name

    @property
    def directory(self) -> Path:
        """Home of all its files; `log/` has one log for each process."""
        return self._record.directory

    @property
    def netns(self) -> Path:
        """File of its network namespace: that of the control plane and the first node."""
        return self.network.netns

    @property
    def nodes(self) -> list[Node]:
        """Its real nodes, the first in the control plane's namespace."""
        return [
            Node(index=entry["index"], record=self._record, network=self.network)
            for entry in self._record.entries("node")
        ]

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of an administrator, of use inside the namespace only."""
        return self._control_plane.admin_kubeconfig

    @property
    def server(self) -> str:
        """URL of the API server, as seen from inside."""
        return self._control_plane.server

    @property
    def ca_file(self) -> Path:
        """Certificate of the authority that vouches for the API server."""
        return self._control_plane.ca_file

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: one JSON event per request, level Metadata."""
        return self._control_plane.audit_log

    @property
    def outside_address(self) -> str:
        """Where relay and registry listen on the host, as seen from inside and from the host alike."""
        return OUTSIDE_ADDRESS

    def keep(self) -> None:
        """Let it outlive the calling process; `python -m tests.cluster down` ends it."""
        self._record.keep()

    def down(self) -> None:
        """
        Stop it and remove everything it made. Doing so twice is fine.

        Raises: ClusterError: Something would not go away; it stays recorded for the next try.
        """
        if self.directory.exists():
            self._record.clear()

    def crash_api_server(self) -> Callable[[], None]:
        """
        SIGKILL the API server of a cluster that this process started; etcd and all else stay.

        Returns: What starts it again, and returns when it is ready.
        Raises: ClusterError: another process started this cluster.
        """
        self._control_plane.crash_api_server()
        return self._control_plane.start_api_server

    def other_api_server(self) -> Process:
        """
        Start another API server of a cluster that this process started, at the same etcd, on `OTHER_API_PORT`.

        Returns: Its process, ready; it ends with the cluster.
        Raises: ClusterError: another process started this cluster.
        """
        return self._control_plane.start_other_api_server()

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        node: int | None = None,
        user: int | None = None,
    ) -> Process:
        """
        Start a process inside the cluster's namespace; it ends with the cluster.

        Args:
            name: Names its log, `directory/log/NAME.log`, which is appended to.
            argv: Program and arguments; no secrets, since everybody on the machine can read them.
            env: Variables beyond PATH, HOME and LANG; nothing else is inherited.
            node: Index of the node whose namespace to use; None or 0 for the first.
            user: User and group id to run as; None for root.
        Returns: The process, started but not awaited.
        """
        return start(
            self._record, self._group, name, argv, environment=env, netns=self.network.netns_of(node or 0), user=user
        )  # fmt: skip

    def memory_group(self, name: str) -> Path | None:
        """
        Make a control group that a process may join before it starts, so that its memory is counted; it ends with us.

        Args:
            name: Unique in this cluster.
        Returns: Its directory; None where the machine has no such groups (`cgroups.memory_group`).
        """
        group = cgroups.memory_group(self.name, name)
        if group is not None:
            self._record.note("cgroup", path=str(group))
            cgroups.make(group)
        return group

    def runs(self, name: str) -> bool:
        """Tell whether a process of that name, spawned by whomever, runs in this cluster."""
        return any(
            entry["name"] == name and start_time(entry["pid"]) == entry["start"] and not is_zombie(entry["pid"])
            for entry in self._record.entries("process")
        )

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:  # noqa: A002 - the name subprocess gives it
        """
        Run kubectl as administrator, inside the namespace.

        Args:
            args: Its arguments.
            input: Text for its standard input, for `apply -f -`.
            check: Whether a failure raises.
        Returns: The finished process, its output as text.
        Raises: ClusterError: kubectl failed and `check` is set; the text has what it said.
        """
        argv = [
            "nsenter",
            f"--net={self.netns}",
            "--",
            str(binary("kubectl")),
            f"--kubeconfig={self.kubeconfig}",
            *args,
        ]
        finished = subprocess.run(
            argv,
            input=input if input is not None else "",
            capture_output=True,
            text=True,
            timeout=_KUBECTL_SECONDS,
            check=False,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.directory)},
        )
        if check and finished.returncode:
            raise ClusterError(f"`kubectl {' '.join(args)}` exited {finished.returncode}: {finished.stderr.strip()}")
        return finished

    def run(self, argv: Sequence[str], *, seconds: float = 30.0) -> str:
        """
        Run a short program inside the namespace to its end.

        Returns: What it wrote to stdout.
        Raises: CommandFailed: It failed or overran `seconds`.
        """
        return run(["nsenter", f"--net={self.netns}", "--", *argv], seconds=seconds)

    def allow(self, port: int) -> None:
        """Let the cluster dial `outside_address` on a TCP port."""
        self.network.allow(port)

    def open_inwards(self, port: int) -> None:
        """Let the host dial a TCP port or NodePort of the cluster: only for a cluster that hosts a relay itself."""
        self.network.open(port)

    def forward(self, node_port: int, *, address: str = OUTSIDE_ADDRESS) -> int:
        """
        Offer a port or NodePort elsewhere, as a load balancer that passes TCP through does: for a relay's clients.

        Args:
            node_port: The port.
            address: Of this machine; the default can be reached by other clusters, if they are allowed the port.
        Returns: The port of that address where it is, as long as the cluster is up.
        """
        ensure_packages(["socat"])
        self.open_inwards(node_port)
        with socket.create_server((address, 0)) as listener:
            port = int(listener.getsockname()[1])
        listen = f"TCP-LISTEN:{port},bind={address},fork,reuseaddr"
        argv = ["socat", listen, f"TCP:{self.network.address}:{node_port}"]
        start(self._record, self._group, "forwarder", argv)
        return port

    def serve_registry(self) -> Registry:
        """Return the cluster's image registry on the host, started if it has none, and open the firewall for it."""
        registry = Registry.serve(self._record, self._group)
        registry.admit(self)
        return registry

    def add_fake_nodes(self, count: int) -> None:
        """
        Add nodes on which pods are Running at once without running, and wait until they are Ready.

        Args:
            count: How many more, 1 or above. Beside real nodes they carry a taint; see `addons.add_fake_nodes`.
        Raises: NotReady: They did not become Ready.
        """
        add_fake_nodes(self, count)

    def token(self, namespace: str, service_account: str, *, hours: int = 1) -> str:
        """
        Ask for a ServiceAccount's token, valid for so many hours.

        Returns: The bearer token.
        """
        return self.kubectl(
            "--namespace", namespace, "create", "token", service_account, f"--duration={hours}h"
        ).stdout.strip()

    def kubeconfig_for(self, namespace: str, service_account: str, path: Path, *, hours: int = 1) -> Path:
        """
        Write a kubeconfig with a ServiceAccount's token.

        Args:
            namespace: Its namespace, also the kubeconfig's default one.
            service_account: Its name.
            path: Where to write; mode 0600.
            hours: How long the token is valid.
        Returns: `path`.
        """
        token = self.token(namespace, service_account, hours=hours)
        return write_kubeconfig(path, self.server, self.ca_file, token, namespace=namespace)
