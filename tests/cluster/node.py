"""
One real node: containerd, kubelet and kube-proxy in a network and a mount namespace of their own.

All that these programs mount and leave in /run, /var/lib or /var/log stays in the node's mount namespace and is gone
with its last process and its directory. Must not: change the machine's settings; the kubelet would set six, so it is
shown files in their place. The one exception is the limit of inotify instances, when it is too low to start at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import cgroups
from tests.cluster.binaries import binary
from tests.cluster.commands import run, wait_until
from tests.cluster.controlplane import write_kubeconfig
from tests.cluster.errors import MissingTool
from tests.cluster.images import PAUSE_IMAGE, pause_image_tar
from tests.cluster.network import POD_NETWORK, Network, pod_gateway
from tests.cluster.process import Process, start
from tests.cluster.progress import say
from tests.cluster.record import STATE
from tests.cluster.registry import HOSTS_DIRECTORY

if TYPE_CHECKING:
    from tests.cluster.controlplane import ControlPlane
    from tests.cluster.pki import Authority
    from tests.cluster.record import Record

PACKAGES = ("runc", "containernetworking-plugins", "iptables", "conntrack", "ipset", "socat")
"""Debian packages a node runs or calls."""
DNS_ADDRESS = "10.96.0.10"
"""Where pods look names up; the add-on DNS takes this ClusterIP."""
_DNS_DOMAIN = "cluster.local"
_READY_SECONDS = 180.0
_CRASH_SECONDS = 20.0
_MEMORY_PEAK = "memory.max_usage_in_bytes"
"""A file of each group in a hierarchy of version 1, where the limits of pods are on this kind of machine."""
_CNI_PLUGINS = "/usr/lib/cni"
_KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""What the kubelet insists on (`setupKernelTunables`)."""

_INOTIFY_PER_NODE = 24
"""Inotify instances that a node's programs hold; the kernel's default of 128 a user is soon used up."""
_INOTIFY_RAISED = 1024
_INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")

# $1 is the node's directory, $2 that of all clusters, which lies in /var/lib. The first line makes mounts of this
# namespace travel among its programs and pods only; the second lets go of other clusters' network namespaces, which
# would live as long as this node (one may vanish meanwhile). No flag changes some paths in /run, /var/lib
# (kubelet/device-plugins, cni/results) and /var/log (containers), and their parents need not exist on the machine.
_MOUNTS = """
set -e
mount --make-rshared /
awk '$3 == "nsfs" { print $2 }' /proc/self/mounts | xargs --no-run-if-empty umount --lazy || true
mount --bind "$1/run" /run
mount --bind "$1/log" /var/log
mount --bind "$2" "$1/lib/$(basename "$2")"
mount --rbind "$1/lib" /var/lib
for file in "$1"/kernel/*; do
  mount --bind "$file" "/proc/sys/$(basename "$file" | tr . /)"
done
touch "$1/mounted"
exec sleep infinity
"""
_CONTAINERD = """
version = 3
root = "{directory}/containerd"
state = "/run/containerd"

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"

[plugins."io.containerd.nri.v1.nri"]
  disable = true

[plugins."io.containerd.cri.v1.images"]
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{hosts}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE no process may lower its own score, and every sandbox would die.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{directory}/cni"
"""


def ensure_inotify(nodes: int) -> None:
    """
    See to it that so many more nodes find inotify instances; without them kubelets die with "too many open files".

    The kernel's default of 128 is raised if it is too low, and stays raised: other clusters may rely on it by then.

    Raises: MissingTool: too few are left and the limit may not be changed.
    """
    held = sum(_is_inotify(link) for process in Path("/proc").glob("[0-9]*") for link in _descriptors(process))
    wanted = held + nodes * _INOTIFY_PER_NODE
    if wanted <= int(_INOTIFY_LIMIT.read_text()):
        return
    raised = max(_INOTIFY_RAISED, wanted)
    say(f"raising fs.inotify.max_user_instances to {raised}: {nodes} more nodes need {wanted} in all")
    try:
        _INOTIFY_LIMIT.write_text(f"{raised}\n")
    except OSError as error:
        raise MissingTool(
            "room for more inotify instances", f"sysctl fs.inotify.max_user_instances={raised}"
        ) from error


def _descriptors(process: Path) -> list[Path]:
    try:
        return list((process / "fd").iterdir())
    except OSError:
        return []  # it ended meanwhile


def _is_inotify(link: Path) -> bool:
    try:
        return str(link.readlink()) == "anon_inode:inotify"
    except OSError:
        return False


@dataclass(frozen=True, kw_only=True)
class Node:
    """A real node of a cluster."""

    index: int
    """0 for the node that shares the control plane's namespace."""
    record: Record
    """Journal of the cluster."""
    network: Network
    """Namespaces of the cluster."""

    @property
    def name(self) -> str:
        """Name of its Node object."""
        return f"node-{self.index}"

    @property
    def directory(self) -> Path:
        """Home of its files, in the cluster's directory."""
        return self.record.directory / self.name

    @property
    def netns(self) -> Path:
        """File of its network namespace."""
        return self.network.netns_of(self.index)

    @property
    def address(self) -> str:
        """Its InternalIP."""
        return self.network.address_of(self.index)

    @property
    def containerd_socket(self) -> Path:
        """Socket of its containerd, as seen from the host."""
        return self.directory / "run" / "containerd" / "containerd.sock"

    def load_image(self, archive: Path) -> None:
        """
        Put the images of an archive into its containerd, as if they had been pulled.

        Args:
            archive: OCI layout or `docker save` in a tar file, image names included.
        """
        argv = [str(binary("ctr")), f"--address={self.containerd_socket}", "--namespace=k8s.io"]
        run([*argv, "images", "import", str(archive)], seconds=300)

    def start_containerd(self) -> Process:
        """
        Start containerd, with the sandbox's image on its way.

        Returns: The process that holds the node's mounts: programs of the node start in its mount namespace.
        """
        if self.index:
            self.network.add_node(self.index)
        for name in ("run", "log", f"lib/{STATE.name}", "cni", "kernel", "kubelet"):
            (self.directory / name).mkdir(parents=True)
        for setting, number in _KERNEL_SETTINGS.items():
            (self.directory / "kernel" / setting.replace("/", ".")).write_text(f"{number}\n")
        mounts = [
            "unshare",
            "--mount",
            "--propagation=slave",
            "--",
            "/bin/sh",
            "-c",
            _MOUNTS,
            "mounts",
            str(self.directory),
            str(STATE),
        ]
        holder = self._start("mounts", mounts, mounts_of=None)
        holder.await_effect(
            "the node's mounts",
            lambda: None if (self.directory / "mounted").exists() else "not all are there",
            seconds=_READY_SECONDS,
        )
        configuration = self.directory / "containerd.toml"
        hosts = self.record.directory / HOSTS_DIRECTORY
        configuration.write_text(
            _CONTAINERD.format(directory=self.directory, pause=PAUSE_IMAGE, hosts=hosts, plugins=_CNI_PLUGINS)
        )
        self._run_containerd(holder.pid)
        self.load_image(pause_image_tar())
        return holder

    def _run_containerd(self, mounts_of: int) -> None:
        program = binary("containerd")
        self.containerd_socket.unlink(missing_ok=True)
        containerd = self._start(
            "containerd",
            [str(program), f"--config={self.directory / 'containerd.toml'}", "--log-level=warn"],
            mounts_of=mounts_of,
            # It finds its shim beside itself, and runc and iptables where Debian puts them.
            environment={"PATH": f"{program.parent}:{os.environ['PATH']}"},
        )
        containerd.await_effect(
            "containerd's socket",
            lambda: None if self.containerd_socket.exists() else "not there",
            seconds=_READY_SECONDS,
        )

    def join(self, control_plane: ControlPlane, authority: Authority, holder: Process) -> None:
        """
        Start kubelet and kube-proxy; `await_ready` waits for them.

        Args:
            control_plane: Where to join; its API server is ready.
            authority: Signs the node's certificates.
            holder: The process that holds the node's mounts.
        """
        relative, groups = cgroups.pod_groups(self.record.name, self.name)
        for group in groups:
            self.record.note("cgroup", path=str(group))
            cgroups.make(group)
        pair = authority.issue(
            self.name, f"system:node:{self.name}", groups=["system:nodes"], names=[self.name], addresses=[self.address]
        )
        write_kubeconfig(self._kubelet_kubeconfig, control_plane.server, control_plane.ca_file, pair)
        configuration = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(control_plane.ca_file)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pair.certificate),
            "tlsPrivateKeyFile": str(pair.key),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": relative,
            "failCgroupV1": False,
            "failSwapOn": False,
            "resolvConf": "",
            "clusterDNS": [DNS_ADDRESS],
            "clusterDomain": _DNS_DOMAIN,
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            # The disk and memory are the developer's own: a node that evicts because a laptop is full helps nobody.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            # Otherwise a loaded image is pulled all the same, once a pod pulled the same bytes by another name: the
            # kubelet then asks who may use them (KEP-2535).
            "imagePullCredentialsVerificationPolicy": "NeverVerify",
            "maxPods": 250,
            "serializeImagePulls": False,
            "podLogsDir": "/var/log/pods",
            "volumePluginDir": str(self.directory / "volume-plugins"),
        }
        self._write_json("kubelet.json", configuration)
        self._configure_proxy(control_plane, authority)
        self._run_kubelet_and_proxy(holder.pid)

    def crash(self) -> None:
        """
        Kill all that runs on it, its pods as well, as when its power fails; `boot` starts it again.

        What it keeps in memory file systems stays, such as /run: programs find more than after a real restart.

        Raises: NotReady: Something survived.
        """

        def look() -> str | None:
            left = self._programs()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return f"processes {left} run" if left else None

        wait_until(f"the end of what runs on {self.name}", look, seconds=_CRASH_SECONDS)
        _, groups = cgroups.pod_groups(self.record.name, self.name)
        for group in groups:
            cgroups.kill(group)

    def boot(self) -> None:
        """Start its programs after a `crash`; pods follow when the kubelet sees that they are gone."""
        holder = self._holder()
        self._run_containerd(holder)
        self._run_kubelet_and_proxy(holder)

    def memory_peak_bytes(self, pod_uid: str, container_id: str) -> int:
        """
        Return the most memory that a container took at once, the files it read included.

        Args:
            pod_uid: Its pod's UID.
            container_id: As the pod's status has it, `containerd://…`.
        """
        name = container_id.rpartition("/")[2]
        _, groups = cgroups.pod_groups(self.record.name, self.name)
        found = [path for group in groups for path in group.glob(f"**/pod{pod_uid}/{name}/{_MEMORY_PEAK}")]
        return max(int(path.read_text()) for path in found)

    def _holder(self) -> int:
        """Return the process that holds the node's mounts."""
        name = f"{self.name}-mounts"
        return next(int(entry["pid"]) for entry in self.record.entries("process") if entry["name"] == name)

    def _programs(self) -> list[int]:
        """Return the processes in its mount namespace, but for the one that holds it: kubelet, containerd, shims."""
        holder = self._holder()
        namespace = Path(f"/proc/{holder}/ns/mnt").readlink()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if process.name != str(holder) and (process / "ns" / "mnt").readlink() == namespace:
                    found.append(int(process.name))
        return found

    @property
    def _kubelet_kubeconfig(self) -> Path:
        return self.directory / "kubelet.kubeconfig"

    def _run_kubelet_and_proxy(self, mounts_of: int) -> None:
        self._start(
            "kubelet",
            [
                str(binary("kubelet")),
                f"--config={self.directory / 'kubelet.json'}",
                f"--kubeconfig={self._kubelet_kubeconfig}",
                f"--hostname-override={self.name}",
                f"--node-ip={self.address}",
                f"--root-dir={self.directory / 'kubelet'}",
                f"--cert-dir={self.directory / 'kubelet' / 'pki'}",
            ],
            mounts_of=mounts_of,
        )
        proxy = [str(binary("kube-proxy")), f"--config={self.directory / 'proxy.json'}"]
        self._start("kube-proxy", proxy, mounts_of=mounts_of)

    def connect_pods(self, pods: str) -> None:
        """
        Give its pods their network.

        Args:
            pods: The range in the Node's `.spec.podCIDR`: ranges go out in the order of joining, to fake nodes too.
        """
        configuration = {
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "pods",
                    "isGateway": True,
                    "hairpinMode": True,
                    # With it traffic between nodes would lose its source, and policies with it.
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(self.directory / "cni-addresses"),
                        "ranges": [[{"subnet": pods, "gateway": pod_gateway(pods)}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }
        if self.index:
            self.network.route_pods(self.index, pods)
        # Written in place, since containerd overlooks a file that is renamed into the directory it watches.
        self._write_json("cni/pods.conflist", configuration)

    def await_ready(self, control_plane: ControlPlane) -> None:
        """
        Give the pods their network once the node has joined, and wait until it is Ready.

        Raises: NotReady: It did not join or did not become Ready.
        """
        connected = False

        def look() -> str | None:
            nonlocal connected
            found = control_plane.get(f"/api/v1/nodes/{self.name}")
            if found is None:
                return "it has not joined"
            if not connected:
                if not (pods := found["spec"].get("podCIDR")):
                    return "it has no pod range"
                self.connect_pods(pods)
                connected = True
            conditions = {entry["type"]: entry for entry in found["status"].get("conditions", [])}
            ready = conditions.get("Ready", {})
            return None if ready.get("status") == "True" else ready.get("message", "its kubelet has not reported")

        log = self.record.directory / "log" / f"{self.name}-kubelet.log"
        wait_until(f"{self.name} being Ready", look, seconds=_READY_SECONDS, log=log)

    def _configure_proxy(self, control_plane: ControlPlane, authority: Authority) -> None:
        pair = authority.issue(f"{self.name}-proxy", "system:kube-proxy")
        kubeconfig = write_kubeconfig(
            self.directory / "proxy.kubeconfig", control_plane.server, control_plane.ca_file, pair
        )
        configuration = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "hostnameOverride": self.name,
            "mode": "iptables",
            "clusterCIDR": POD_NETWORK,
            "bindAddress": self.address,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            # The limit is the machine's, not the namespace's: leave it alone.
            "conntrack": {"maxPerCore": 0, "min": 0},
        }
        self._write_json("proxy.json", configuration)

    def _start(
        self, program: str, argv: list[str], *, mounts_of: int | None, environment: dict[str, str] | None = None
    ) -> Process:
        return start(
            self.record,
            cgroups.process_group(self.record.name),
            f"{self.name}-{program}",
            argv,
            environment=environment,
            netns=self.netns,
            mounts_of=mounts_of,
        )

    def _write_json(self, name: str, content: object) -> None:
        (self.directory / name).write_text(json.dumps(content, indent=1))
