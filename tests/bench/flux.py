"""
Flux's kustomize-controller as a process beside a control plane, with an administrator's rights: a peer to measure.

Sources are what source-controller would leave: a GitRepository whose status names an archive, which is served here. So
a revision begins with the patch of that status; Git, its clone and its archive take no time. Must not: be started for
benchmarks that do not compare with it, since it takes minutes to build.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import ssl
import tarfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import uvloop

from tests.bench.processes import joining
from tests.cluster.access import inside, socket_factory
from tests.cluster.addons import LASTING_HOURS
from tests.cluster.binaries import binary, module_directory
from tests.cluster.commands import end_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.cluster.cluster import Cluster
    from tests.cluster.process import Process

PROGRAM: Final = "kustomize-controller"
"""Program, process and ServiceAccount."""
_MODULES: Final = ("github.com/fluxcd/kustomize-controller", "github.com/fluxcd/source-controller@v1.9.0")
"""Whose CRDs it needs; the latter's version is that of its `api` module in go.mod."""
_NAMESPACE: Final = "flux-system"
_SOURCES: Final = f"/apis/source.toolkit.fluxcd.io/v1/namespaces/{_NAMESPACE}/gitrepositories"
_KUSTOMIZATIONS: Final = f"/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{_NAMESPACE}/kustomizations"
_WORKERS: Final = 20
_QPS: Final = 500
_BUFFER_BYTES: Final = 16 * 1024 * 1024
"""A Kustomization's status lists all its objects: 0.4 MB for 4,000, in one line of a watch."""
_READY_SECONDS: Final = 120.0
_APPLY_SECONDS: Final = 1800.0
_APPLYING: Final = "Detecting drift for revision"
"""How the condition `Reconciling` begins once the manifests are built."""
_WAITING: Final = "Running health checks for revision"
"""How it begins once they are applied."""


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """What one revision took, in seconds from the patch of the source's status on."""

    built: float
    """Until the archive was fetched and the manifests were built."""
    applied: float
    """Until all objects were applied."""
    healthy: float
    """Until the Kustomization's status says that they are healthy, too."""


class KustomizeController:
    """The controller, running; make one with `start`."""

    def __init__(self, cluster: Cluster, folder: Path, archives: ThreadingHTTPServer, group: Path | None) -> None:
        """Use `start`."""
        self._cluster = cluster
        self._folder = folder
        self._archives = archives
        self._revisions = itertools.count(1)
        self._token = cluster.token(_NAMESPACE, PROGRAM, hours=LASTING_HOURS)
        self.memory_group = group
        """The control group that counts its memory, if the machine has such."""
        self.process = self._spawn()

    @classmethod
    def start(cls, cluster: Cluster, folder: Path) -> Self:
        """
        Start it, built first if this machine never did.

        Args:
            cluster: Where; it works there until `stop` or the cluster's end.
            folder: Empty, for archives and its scratch files.
        Raises: BuildFailed: The program cannot be built.
        """
        binary(PROGRAM)
        definitions = [f"--filename={module_directory(PROGRAM, one) / 'config/crd/bases'}" for one in _MODULES]
        cluster.kubectl("apply", "--server-side", *definitions)
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *definitions)
        cluster.kubectl("create", "namespace", _NAMESPACE)
        cluster.kubectl("create", "serviceaccount", PROGRAM, "--namespace", _NAMESPACE)
        # As Flux's own installation has it.
        account = f"--serviceaccount={_NAMESPACE}:{PROGRAM}"
        cluster.kubectl("create", "clusterrolebinding", PROGRAM, "--clusterrole=cluster-admin", account)
        with inside(cluster.netns):
            archives = _Archives(folder)
        threading.Thread(target=archives.serve_forever, name="archives", daemon=True).start()
        return cls(cluster, folder, archives, cluster.memory_group(PROGRAM))

    def stop(self) -> None:
        """End it; what it applied stays."""
        if self.process.running:
            self.process.terminate(60)
        self._archives.shutdown()
        self._archives.server_close()

    def offer(self, name: str, manifests: Sequence[Mapping[str, Any]]) -> None:
        """Make a Kustomization of some manifests, unless there is one, and wait until the controller knows it."""
        content = "".join(f"---\n{json.dumps(manifest)}\n" for manifest in manifests).encode()
        with tarfile.open(self._archive(name), "w:gz") as archive:
            entry = tarfile.TarInfo("manifests.yaml")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        self._cluster.kubectl("apply", "--server-side", "--filename=-", input=json.dumps(_objects(name)))

        def look() -> str | None:
            argv = ("get", "kustomization", name, "--namespace", _NAMESPACE, "--output=json")
            status = json.loads(self._cluster.kubectl(*argv).stdout).get("status", {})
            return None if _condition(status, "Ready") else f"its status is {status}"

        wait_until(f"{PROGRAM} to look at {name}", look, seconds=_READY_SECONDS, log=self.process.log)

    def reconcile(self, name: str) -> Reconciled:
        """
        Release what was offered as a new revision, and watch until it is applied and healthy.

        Raises:
            OSError: It could not be applied; the text has the controller's words.
            TimeoutError: Nothing was said in half an hour.
        """
        return uvloop.run(self._reconcile(name, f"main@sha1:{next(self._revisions):040x}"))

    async def _reconcile(self, name: str, revision: str) -> Reconciled:
        context = ssl.create_default_context(cafile=self._cluster.ca_file)
        connector = aiohttp.TCPConnector(ssl=context, socket_factory=socket_factory(self._cluster.netns))
        headers = {"Authorization": f"Bearer {self._token}"}
        async with aiohttp.ClientSession(
            self._cluster.server, connector=connector, headers=headers, read_bufsize=_BUFFER_BYTES,
            timeout=aiohttp.ClientTimeout(total=_APPLY_SECONDS),
        ) as session:  # fmt: skip
            query = {
                "watch": "true",
                "fieldSelector": f"metadata.name={name}",
                "timeoutSeconds": f"{_APPLY_SECONDS:.0f}",
            }
            async with session.get(_KUSTOMIZATIONS, params=query) as events:
                events.raise_for_status()
                began = time.perf_counter()
                await self._release(session, name, revision)
                built, applied = began, 0.0
                async for line in events.content:
                    status, now = json.loads(line)["object"].get("status", {}), time.perf_counter()
                    if status.get("lastAppliedRevision") == revision:
                        return Reconciled(built=built - began, applied=(applied or now) - began, healthy=now - began)
                    ready = _condition(status, "Ready")
                    if status.get("lastAttemptedRevision") == revision and ready.get("status") == "False":
                        raise OSError(f"{PROGRAM} did not apply {name}: {ready['message'][:2000]}")
                    doing = _condition(status, "Reconciling").get("message", "")
                    if doing.startswith(f"{_APPLYING} {revision}"):
                        built = now
                    elif doing.startswith(f"{_WAITING} {revision}"):
                        applied = now
        raise TimeoutError(f"the watch of Kustomization {name} ended; the log ends: {end_of(self.process.log)}")

    async def _release(self, session: aiohttp.ClientSession, name: str, revision: str) -> None:
        path = self._archive(name)
        artifact = {
            "revision": revision,
            "digest": f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
            "path": path.name,
            "size": path.stat().st_size,
            "url": f"http://127.0.0.1:{self._archives.server_port}/{path.name}",
            "lastUpdateTime": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        headers = {"Content-Type": "application/merge-patch+json"}
        body = json.dumps({"status": {"artifact": artifact}})
        async with session.patch(f"{_SOURCES}/{name}/status", data=body, headers=headers) as answer:
            if not answer.ok:
                raise OSError(f"PATCH GitRepository {name}: {answer.status} {(await answer.text())[:300]}")

    def _archive(self, name: str) -> Path:
        return self._folder / f"{name}.tar.gz"

    def _spawn(self) -> Process:
        path = self._cluster.directory / f"{PROGRAM}.kubeconfig"
        kubeconfig = self._cluster.kubeconfig_for(_NAMESPACE, PROGRAM, path, hours=LASTING_HOURS)
        argv = [
            str(binary(PROGRAM)),
            "--watch-all-namespaces",
            f"--concurrent={_WORKERS}",
            f"--concurrent-ssa={_WORKERS}",
            f"--kube-api-qps={_QPS}",
            f"--kube-api-burst={2 * _QPS}",
            "--metrics-addr=0",
            "--health-addr=0",
            # It would keep the metadata of all ConfigMaps and Secrets, and follow them while others are measured.
            "--feature-gates=DisableConfigWatchers=true",
        ]
        environment = {"KUBECONFIG": str(kubeconfig), "TMPDIR": str(self._folder), "RUNTIME_NAMESPACE": _NAMESPACE}
        return self._cluster.spawn(PROGRAM, joining(self.memory_group, argv), env=environment)


class _Archives(ThreadingHTTPServer):
    """Serves a folder to the cluster's processes, on the loopback address of the caller's network namespace."""

    def __init__(self, folder: Path) -> None:
        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - handed on
                super().__init__(*arguments, directory=str(folder), **options)

            def log_message(self, *arguments: Any) -> None:  # noqa: ANN401 - not used
                """Say nothing: stderr is for the benchmark's progress."""

        super().__init__(("127.0.0.1", 0), Handler)


def _objects(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": _NAMESPACE}
    source = {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": metadata,
        "spec": {"interval": "24h", "url": "https://source.invalid/shop"},
    }
    kustomization = {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": metadata,
        "spec": {
            # Nothing is to be applied again while others are measured.
            "interval": "24h",
            "timeout": "30m",
            "path": "./",
            "prune": True,
            "wait": True,
            "sourceRef": {"kind": "GitRepository", "name": name},
        },
    }
    return {"apiVersion": "v1", "kind": "List", "items": [source, kustomization]}


def _condition(status: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of an object's status, empty if it has none of that type."""
    return next((dict(one) for one in status.get("conditions", []) if one["type"] == kind), {})
