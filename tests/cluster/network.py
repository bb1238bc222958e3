"""
Network namespaces of a cluster: no default route, and a firewall that lets nothing in and one address out.

A cluster's first namespace has one link, `outside`, to the host, and one nft table that guards it; namespaces of
further nodes hang off the first, so every packet that leaves or enters passes that table. The host needs no rule and no
forwarding. Must not: put anything into the host's firewall, or trust a table it has not seen refuse a connection.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.access import call_inside, inside
from tests.cluster.commands import run
from tests.cluster.errors import ClusterError, NotIsolated

if TYPE_CHECKING:
    from tests.cluster.record import Record

OUTSIDE_ADDRESS = "10.213.0.1"
"""Where relay and registry listen: one address on the host's loopback link, the same for every cluster."""
POD_NETWORK = "10.128.0.0/10"
"""Pods' addresses, the same in each cluster, one /24 per node: room for 16,384, since fake nodes take a range too."""
SERVICE_NETWORK = "10.96.0.0/16"
"""ClusterIPs; `.0.1` is the API server, `.0.10` DNS."""
_PROBE_SECONDS = 0.25
"""A dropped packet shows as silence; the host would answer or refuse within a millisecond."""

# `inside_tcp` holds ports a cluster offers on purpose (a relay installed in it by its chart), as they were before any
# NAT, so that a NodePort works. The host knows the way back to the first node's address alone: not to pods', and not to
# those of further nodes, whose containerd pulls images.
_TABLE = """
table inet fairlead {{
  set outside_tcp {{ type inet_service; }}
  set inside_tcp {{ type inet_service; }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "outside" ct state established,related accept
    iifname "outside" meta l4proto tcp ct original proto-dst @inside_tcp accept
    iifname "outside" drop
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    oifname "outside" ct state established,related accept
    oifname "outside" ip daddr {outside} tcp dport @outside_tcp accept
    oifname "outside" meta l4proto tcp reject with tcp reset
    oifname "outside" reject
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "outside" ct state established,related accept
    iifname "outside" meta l4proto tcp ct original proto-dst @inside_tcp accept
    iifname "outside" drop
    oifname "outside" ct state established,related accept
    oifname "outside" ip daddr {outside} tcp dport @outside_tcp accept
    oifname "outside" meta l4proto tcp reject with tcp reset
    oifname "outside" reject
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "outside" masquerade
  }}
}}
"""


@dataclass(frozen=True, kw_only=True)
class Network:
    """The namespaces of one cluster; `make` makes the first, `add_node` one for each further node."""

    record: Record
    """Journal of the cluster; its number shapes the addresses."""

    @property
    def netns(self) -> Path:
        """File of the first namespace: control plane, first node, test processes."""
        return self.netns_of(0)

    @property
    def address(self) -> str:
        """Address of the first namespace, on its link to the host."""
        return self.address_of(0)

    @property
    def host_link(self) -> str:
        """Name of the host's end of the link."""
        return f"flc{self.record.number}"

    @property
    def _host_address(self) -> str:
        return f"10.213.{self.record.number}.1"

    def netns_of(self, node: int) -> Path:
        """Return the file of a node's namespace."""
        return self.record.directory / "netns" / f"node-{node}"

    def address_of(self, node: int) -> str:
        """Return a node's address: .2 for the first, which shares a /30 with the host, .16 and up for further ones."""
        return f"10.213.{self.record.number}.{2 if node == 0 else 15 + node}"

    def make(self) -> None:
        """
        Make the first namespace, its link and its firewall, and prove that the firewall holds.

        Raises:
            CommandFailed: The kernel or nft refused.
            NotIsolated: The firewall lets something through.
        """
        self.record.share_address(OUTSIDE_ADDRESS)
        self._new_namespace(0)
        # The table names the link before it exists: there is no moment at which it is up and unguarded.
        self._enter(0, ["nft", "-f", "-"], stdin=_TABLE.format(outside=OUTSIDE_ADDRESS))
        self.record.note("link", name=self.host_link)
        run(["ip", "link", "add", self.host_link, "type", "veth", "peer", "name", "outside", "netns", str(self.netns)])
        run(["ip", "address", "add", f"{self._host_address}/30", "dev", self.host_link])
        run(["ip", "link", "set", self.host_link, "up"])
        self._batch(
            0,
            f"address add {self.address}/30 dev outside",
            "link set outside up",
            f"route add {OUTSIDE_ADDRESS} via {self._host_address} dev outside",
            # kube-proxy rewrites a ClusterIP before it leaves, but without a default route there is no way to one.
            f"route add {SERVICE_NETWORK} dev lo src {self.address}",
        )
        self.probe()

    def add_node(self, node: int) -> None:
        """
        Make the namespace of a further node and join it to the first.

        Args:
            node: Index, 1 to 200.
        """
        name, address = f"node-{node}", self.address_of(node)
        self._new_namespace(node)
        # Both ends are inside: the link dies with the namespaces, and the host never sees it.
        self._batch(0, f"link add {name} type veth peer name uplink netns {self.netns_of(node)}")
        self._batch(0, f"address add {self.address} peer {address} dev {name}", f"link set {name} up")
        self._batch(
            node,
            f"address add {address} peer {self.address} dev uplink",
            "link set uplink up",
            f"route add 10.213.{self.record.number}.0/24 via {self.address}",
            f"route add {OUTSIDE_ADDRESS} via {self.address}",
            f"route add {POD_NETWORK} via {self.address}",
            f"route add {SERVICE_NETWORK} dev lo src {address}",
        )

    def route_pods(self, node: int, pods: str) -> None:
        """Route a further node's pod range to it; other further nodes reach it through the first."""
        self._batch(0, f"route add {pods} via {self.address_of(node)}")

    def allow(self, port: int) -> None:
        """Let the cluster dial `OUTSIDE_ADDRESS` on a TCP port; allowing twice is fine."""
        self._enter(0, ["nft", "add", "element", "inet", "fairlead", "outside_tcp", f"{{ {port} }}"])

    def open(self, port: int) -> None:
        """Let the host dial a TCP port (a NodePort, too) of the cluster: for a relay that is installed in it."""
        self._enter(0, ["nft", "add", "element", "inet", "fairlead", "inside_tcp", f"{{ {port} }}"])

    def probe(self) -> None:
        """
        Try real connections that must fail: from the host to a listener inside, and from inside to one on the host.

        Raises: NotIsolated: One of them succeeded, or the table is not there.
        """
        for chain in ("input", "output", "forward"):
            if 'oifname "outside"' not in (
                rules := self._enter(0, ["nft", "list", "chain", "inet", "fairlead", chain])
            ) and ('iifname "outside"' not in rules):
                raise NotIsolated(f"chain {chain} has no rule for the link to the host")
        with inside(self.netns):
            listener = socket.create_server((self.address, 0))
        with listener:
            port = listener.getsockname()[1]
            if _connects(self.address, port):
                raise NotIsolated(f"the host reached {self.address}:{port}")
        with socket.create_server((OUTSIDE_ADDRESS, 0)) as listener:
            port = listener.getsockname()[1]
            if call_inside(self.netns, _connects, OUTSIDE_ADDRESS, port):
                raise NotIsolated(f"the cluster reached {OUTSIDE_ADDRESS}:{port}, which was not allowed")

    def _new_namespace(self, node: int) -> None:
        path = self.netns_of(node)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        # Bound to a file in the record's own directory: `ip netns` would leave a mount behind in /run.
        run(["unshare", f"--net={path}", "true"])
        self._batch(node, "link set lo up")
        switches = ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables")
        with inside(path):
            for switch in switches:
                (Path("/proc/sys") / switch).write_text("1")

    def _batch(self, node: int, *lines: str) -> None:
        self._enter(node, ["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")

    def _enter(self, node: int, argv: list[str], *, stdin: str | None = None) -> str:
        return run(["nsenter", f"--net={self.netns_of(node)}", "--", *argv], stdin=stdin)


def _connects(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=_PROBE_SECONDS):
            return True
    except OSError:
        return False


def pod_gateway(pods: str) -> str:
    """
    Return the bridge's address in a node's pod range.

    Args:
        pods: Range, such as "10.128.3.0/24".
    """
    base, _, length = pods.partition("/")
    if length != "24":
        raise ClusterError(f"pod range {pods} is no /24")
    return base.rpartition(".")[0] + ".1"
