"""
Start etcd, API server, controller-manager and scheduler of one cluster, as a careful operator would configure them.

Node and RBAC authorization, NodeRestriction, Pod Security admission, audit log and aggregation are on; only etcd is
careless, because a cluster of a test need not survive a power cut. Must not: listen anywhere but in the cluster's
namespace.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from typing import TYPE_CHECKING, Any

from tests.cluster.access import connect
from tests.cluster.binaries import KUBERNETES, binary
from tests.cluster.errors import ClusterError
from tests.cluster.network import POD_NETWORK, SERVICE_NETWORK
from tests.cluster.pki import Authority, KeyPair, service_account_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.cluster.process import Process

    Start = Callable[[str, Sequence[str]], Process]

API_PORT = 6443
OTHER_API_PORT = 6444
"""Of a second API server, where a test starts one."""
_ETCD_PORT = 2379
_ETCD_PEER_PORT = 2380
_READY_SECONDS = 180.0
"""Twenty times what a quiet machine takes: several clusters may start at once beside a build."""
_API_SERVICE_ADDRESS = "10.96.0.1"
"""First address of SERVICE_NETWORK; the API server takes it by itself."""
_QPS = ("--kube-api-qps=300", "--kube-api-burst=400")
"""The defaults (20 and 30) make a thousand pods take fifty seconds instead of twelve."""
_AUDIT_MEGABYTES = 200
"""Size at which the audit log is rotated: a day of tests; one older file is kept."""

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
_ADMISSION = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AdmissionConfiguration",
    "plugins": [
        {
            "name": "PodSecurity",
            "configuration": {
                "apiVersion": "pod-security.admission.config.k8s.io/v1",
                "kind": "PodSecurityConfiguration",
                "defaults": {"enforce": "baseline", "audit": "restricted", "warn": "restricted"},
                "exemptions": {"namespaces": ["kube-system"]},
            },
        }
    ],
}


class ControlPlane:
    """The four processes of one cluster's control plane."""

    def __init__(self, directory: Path, netns: Path, address: str, start: Start) -> None:
        """
        Describe a control plane; `up` starts it.

        Args:
            directory: The cluster's directory.
            netns: File of the namespace it runs in.
            address: Address it announces, reachable by nodes and pods.
            start: Starts a recorded process in the namespace, given its name and command.
        """
        self.server = f"https://{address}:{API_PORT}"
        self.audit_log = directory / "log" / "audit.log"
        self.admin_kubeconfig = directory / "admin.kubeconfig"
        self._directory = directory
        self._pki = directory / "pki"
        self._netns = netns
        self._address = address
        self._start = start
        self._api_server: Process | None = None
        self._api_server_command: list[str] = []

    @property
    def ca_file(self) -> Path:
        """Certificate of the authority that signs the API server's certificate."""
        return self._pki / "ca.crt"

    def up(self) -> Authority:
        """
        Start everything and wait until the API server is ready and a pod could be created.

        Returns: The authority that signs every identity of the cluster and the serving certificates of its nodes.
        Raises: NotReady: A component did not come up; the error names its log.
        """
        self._pki.mkdir(mode=0o711)
        authority = Authority(self._pki, "ca")
        admin = authority.issue("admin", "kubernetes-admin", groups=["system:masters"])
        write_kubeconfig(self.admin_kubeconfig, self.server, self.ca_file, admin)
        private_key, public_key = service_account_key(self._pki)
        etcd = self._start_etcd()
        self._api_server_command = self._command_of_api_server(authority, etcd, private_key, public_key)
        # Ready means that RBAC's own roles are there: started earlier, the others would be refused, and end.
        self.start_api_server()
        for component in ("kube-controller-manager", "kube-scheduler"):
            pair = authority.issue(component, f"system:{component}")
            write_kubeconfig(self._kubeconfig_of(component), self.server, self.ca_file, pair)
        controllers = self._start_controller_manager(authority, private_key)
        self._start("kube-scheduler", [*self._command_of("kube-scheduler"), *_QPS])
        # Pods are refused until their namespace has its ServiceAccount, and do not start without the CA's ConfigMap.
        self._wait_for("/api/v1/namespaces/default/serviceaccounts/default", controllers)
        self._wait_for("/api/v1/namespaces/default/configmaps/kube-root-ca.crt", controllers)
        return authority

    def start_api_server(self) -> None:
        """Start it, at first or after a crash. Returns when it is ready. Raises: NotReady: the error names its log."""
        self._api_server = self._start("kube-apiserver", self._api_server_command)
        self._wait_for("/readyz", self._api_server)

    def start_other_api_server(self) -> Process:
        """
        Start another API server beside the first, on `OTHER_API_PORT`: same etcd, certificates and keys.

        Raises: ClusterError: another process started this cluster. NotReady: the error names its log.
        """
        if not self._api_server_command:
            raise ClusterError("only the process that started a cluster may start another API server")
        own = {f"--secure-port={API_PORT}": f"--secure-port={OTHER_API_PORT}"}
        own[f"--audit-log-path={self.audit_log}"] = f"--audit-log-path={self.audit_log.with_stem('audit-other')}"
        other = self._start("kube-apiserver-other", [own.get(flag, flag) for flag in self._api_server_command])
        self._wait_for("/readyz", other, port=OTHER_API_PORT)
        return other

    def crash_api_server(self) -> None:
        """SIGKILL it. Raises: ClusterError: another process started this cluster."""
        if self._api_server is None:
            raise ClusterError("only the process that started a cluster may crash its API server")
        self._api_server.kill()

    def get(self, path: str) -> dict[str, Any] | None:
        """
        Read an object as administrator.

        Args:
            path: Path of its URL, such as "/api/v1/nodes/node-0".
        Returns: The object; None if there is none, or no answer (yet).
        """
        status, text = self._request(path)
        if status != http.client.OK:
            return None
        found: dict[str, Any] = json.loads(text)
        return found

    def _request(self, path: str, port: int = API_PORT) -> tuple[int, str]:
        """Return the status and text of a GET as administrator; status 0 and the reason if there is no answer."""
        context = ssl.create_default_context(cafile=self.ca_file)
        context.load_cert_chain(self._pki / "admin.crt", self._pki / "admin.key")
        connection = _InsideConnection(self._netns, self._address, port, context)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, f"{type(error).__name__}: {error}"
        finally:
            connection.close()

    def _wait_for(self, path: str, process: Process, *, port: int = API_PORT) -> None:
        def look() -> str | None:
            status, text = self._request(path, port)
            return None if status == http.client.OK else f"{status} {text.strip()[:300]}"

        process.await_effect(f"GET {path} answering 200", look, seconds=_READY_SECONDS)

    def _start_etcd(self) -> list[str]:
        """Start etcd with certificates of its own; return the API server's flags for it."""
        authority = Authority(self._pki, "etcd-ca")
        server = authority.issue("etcd", "etcd", names=["localhost"], addresses=["127.0.0.1"])
        client = authority.issue("etcd-client", "kube-apiserver")
        listen, peers = f"https://127.0.0.1:{_ETCD_PORT}", f"https://127.0.0.1:{_ETCD_PEER_PORT}"
        trusted = str(authority.files.certificate)
        pair = (str(server.certificate), str(server.key))
        self._start(
            "etcd",
            [
                str(binary("etcd")),
                f"--data-dir={self._directory / 'etcd'}",
                "--name=only",
                f"--listen-client-urls={listen}",
                f"--advertise-client-urls={listen}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=only={peers}",
                f"--cert-file={pair[0]}",
                f"--key-file={pair[1]}",
                f"--trusted-ca-file={trusted}",
                "--client-cert-auth",
                f"--peer-cert-file={pair[0]}",
                f"--peer-key-file={pair[1]}",
                f"--peer-trusted-ca-file={trusted}",
                "--peer-client-cert-auth",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
        )
        return [
            f"--etcd-servers={listen}",
            f"--etcd-cafile={trusted}",
            f"--etcd-certfile={client.certificate}",
            f"--etcd-keyfile={client.key}",
        ]

    def _command_of_api_server(
        self, authority: Authority, etcd: list[str], private_key: Path, public_key: Path
    ) -> list[str]:
        service_names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        serving = authority.issue(
            "apiserver", "kube-apiserver", names=["localhost", *service_names],
            addresses=[self._address, _API_SERVICE_ADDRESS, "127.0.0.1"],
        )  # fmt: skip
        kubelet_client = authority.issue(
            "apiserver-kubelet-client", "kube-apiserver-kubelet-client", groups=["system:masters"]
        )
        front = Authority(self._pki, "front-proxy-ca")
        front_client = front.issue("front-proxy-client", "front-proxy-client")
        audit_policy = self._write_json("audit-policy.json", _AUDIT_POLICY)
        admission = self._write_json("admission.json", _ADMISSION)
        ca = authority.files.certificate
        return [
            str(binary("kube-apiserver")),
            *etcd,
            f"--advertise-address={self._address}",
            f"--secure-port={API_PORT}",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={ca}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--admission-control-config-file={admission}",
            # Who may be privileged is for Pod Security to say, per namespace.
            "--allow-privileged=true",
            f"--audit-policy-file={audit_policy}",
            f"--audit-log-path={self.audit_log}",
            f"--audit-log-maxsize={_AUDIT_MEGABYTES}",
            "--audit-log-maxbackup=1",
            *_mutating_policies(),
            "--anonymous-auth=false",
            "--profiling=false",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={public_key}",
            f"--service-account-signing-key-file={private_key}",
            # Otherwise logs and exec look a node's *name* up, and time out.
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={ca}",
            f"--kubelet-client-certificate={kubelet_client.certificate}",
            f"--kubelet-client-key={kubelet_client.key}",
            # Aggregated APIs and webhooks are dialled at their endpoints: without nodes there is no kube-proxy.
            "--enable-aggregator-routing=true",
            f"--requestheader-client-ca-file={front.files.certificate}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={front_client.certificate}",
            f"--proxy-client-key-file={front_client.key}",
        ]

    def _start_controller_manager(self, authority: Authority, private_key: Path) -> Process:
        ca = authority.files
        return self._start(
            "kube-controller-manager",
            [
                *self._command_of("kube-controller-manager"),
                *_QPS,
                "--use-service-account-credentials=true",
                f"--service-account-private-key-file={private_key}",
                f"--root-ca-file={ca.certificate}",
                f"--cluster-signing-cert-file={ca.certificate}",
                f"--cluster-signing-key-file={ca.key}",
                "--allocate-node-cidrs=true",
                f"--cluster-cidr={POD_NETWORK}",
                f"--service-cluster-ip-range={SERVICE_NETWORK}",
                # It would make its default directory below /usr.
                f"--flex-volume-plugin-dir={self._directory / 'volume-plugins'}",
            ],
        )

    def _command_of(self, component: str) -> list[str]:
        kubeconfig = self._kubeconfig_of(component)
        return [
            str(binary(component)),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            # One of each: an election would only add its two seconds to every start.
            "--leader-elect=false",
            "--profiling=false",
        ]

    def _kubeconfig_of(self, component: str) -> Path:
        return self._directory / f"{component}.kubeconfig"

    def _write_json(self, name: str, content: object) -> Path:
        path = self._directory / name
        path.write_text(json.dumps(content))
        return path


class _InsideConnection(http.client.HTTPSConnection):
    """An HTTPS connection whose socket is made in a network namespace."""

    def __init__(self, netns: Path, address: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(address, port, timeout=5.0, context=context)
        self._netns = netns
        self._tls = context

    def connect(self) -> None:
        plain = connect(self._netns, self.host, self.port)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def _mutating_policies() -> list[str]:
    """Return what older releases need to be told to serve them."""
    version = KUBERNETES.mutating_policies
    if version == "v1":
        return []
    return [
        "--feature-gates=MutatingAdmissionPolicy=true",
        f"--runtime-config=admissionregistration.k8s.io/{version}=true",
    ]


def write_kubeconfig(
    path: Path, server: str, ca_file: Path, identity: KeyPair | str, *, namespace: str = "default"
) -> Path:
    """
    Write a kubeconfig, readable by its owner only and complete in itself.

    Args:
        path: Where to; JSON, which every reader of YAML reads.
        server: URL of the API server as seen from inside.
        ca_file: Certificate to trust, copied into the file.
        identity: A key pair or a bearer token, copied into the file as well.
        namespace: Namespace used when a command names none.
    Returns: `path`.
    """
    if isinstance(identity, str):
        user: dict[str, str] = {"token": identity}
    else:
        user = {"client-certificate-data": _base64(identity.certificate), "client-key-data": _base64(identity.key)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "cluster", "cluster": {"server": server, "certificate-authority-data": _base64(ca_file)}}
        ],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "default", "context": {"cluster": "cluster", "user": "user", "namespace": namespace}}],
        "current-context": "default",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))
    return path


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
