"""
Serve images to clusters from this machine: Debian's docker-registry at the outside address.

Every user starts a registry process of its own, on a free port and written down in a record, so none has to be counted
or handed over; all of them serve one directory in the cache, so what was pushed once is there in the next run, too.
The registry speaks plain HTTP: it listens on an address that only this machine and its clusters can reach. Must not:
hold anything that cannot be built again, since the directory is emptied when it has grown too large.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import secrets
import shutil
import socket
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.cluster import cgroups, process
from tests.cluster.binaries import cache_directory
from tests.cluster.commands import wait_until
from tests.cluster.debian import ensure_packages
from tests.cluster.errors import ClusterError
from tests.cluster.network import OUTSIDE_ADDRESS
from tests.cluster.progress import say
from tests.cluster.record import Record
from tests.cluster.scratch_image import MANIFEST_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.cluster import Cluster

HOSTS_DIRECTORY = "registry-hosts"
"""Where, in a cluster's directory, its containerds look up how to reach a registry (`config_path`)."""
_CACHE_LIMIT_BYTES = 6 * 1024**3
"""About forty images of a Python program; a run of all tests needs eight."""
_ACCEPTED = f"{MANIFEST_TYPE}, application/vnd.docker.distribution.manifest.v2+json"
_ANSWER_SECONDS = 60.0
_START_SECONDS = 10.0
_WRITTEN_SECONDS = 10.0
"""How long a tag may look damaged while another process writes it."""

# Read-only health checks and the access log are off: nobody reads them, and the log would grow with every pull.
_CONFIGURATION = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {directory}}}
http: {{addr: "{address}"}}
"""


class RegistryRefused(ClusterError):
    """The registry answered a request with an error; permanent, unless its disk is full."""

    def __init__(self, request: str, status: int, answer: str) -> None:
        """Keep the `request` (method and path), the HTTP `status` and the start of the `answer`."""
        super().__init__(request, status, answer)
        self.request = request
        self.status = status
        self.answer = answer

    def __str__(self) -> str:
        return f"the registry answered {self.request} with {self.status}: {self.answer.strip()}"


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A running registry."""

    port: int
    """TCP port at `OUTSIDE_ADDRESS`."""

    @property
    def address(self) -> str:
        """Host and port, as image references begin."""
        return f"{OUTSIDE_ADDRESS}:{self.port}"

    @classmethod
    def serve(cls, record: Record, group: Path) -> Registry:
        """
        Return the registry of a record, started if it has none yet; it lives as long as the record.

        Args:
            record: Journal of the cluster or of the test session.
            group: Control group of the record's processes.
        Raises:
            MissingTool: Debian's package cannot be installed.
            NotReady: It did not answer.
        """
        note = record.directory / "registry.json"
        if note.exists():
            return cls(port=int(json.loads(note.read_text())["port"]))
        ensure_packages(["docker-registry"])
        directory = cache_directory() / "registry"
        directory.mkdir(parents=True, exist_ok=True)
        empty_if_large(directory, _CACHE_LIMIT_BYTES)
        record.share_address(OUTSIDE_ADDRESS)
        registry = cls(port=_free_port())
        configuration = record.directory / "registry.yml"
        configuration.write_text(_CONFIGURATION.format(directory=directory, address=registry.address))
        # The shared lock lasts as long as the process: nobody empties a directory that is being served.
        argv = ["flock", "--shared", "--no-fork", f"{directory}.lock", "docker-registry", "serve", str(configuration)]
        started = process.start(record, group, "registry", argv, environment={"OTEL_TRACES_EXPORTER": "none"})

        def look() -> str | None:
            try:
                registry._request("GET", "/v2/")
            except OSError as error:
                return str(error)
            return None

        started.await_effect("an answer of the registry", look, seconds=_START_SECONDS)
        note.write_text(json.dumps({"port": registry.port}))
        return registry

    def trust(self, hosts: Path) -> None:
        """
        Tell a containerd that this registry speaks plain HTTP.

        Args:
            hosts: Directory its CRI plug-in has as `config_path`; read at each pull, so no restart is needed.
        """
        folder = hosts / self.address
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts.toml").write_text(
            f'server = "http://{self.address}"\n\n'
            f'[host."http://{self.address}"]\n'
            '  capabilities = ["pull", "resolve"]\n'
        )

    def admit(self, cluster: Cluster) -> None:
        """Let a cluster's nodes pull from here: open the firewall for it and tell their containerd."""
        cluster.allow(self.port)
        self.trust(cluster.directory / HOSTS_DIRECTORY)

    def digest(self, repository: str, tag: str) -> str | None:
        """
        Look up an image.

        Args:
            repository: Name without the registry's address, such as "debian".
            tag: Tag or digest.
        Returns: Its manifest's digest; None if there is none.
        """
        found: str | None = None

        def look() -> str | None:
            nonlocal found
            try:
                headers, _ = self._request("HEAD", f"/v2/{repository}/manifests/{tag}", {"Accept": _ACCEPTED})
            except RegistryRefused as refusal:
                # Another registry on the same directory is just writing the tag: its file is there and still empty.
                if refusal.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
                    return str(refusal)
                if refusal.status != http.HTTPStatus.NOT_FOUND:
                    raise
            else:
                found = headers["docker-content-digest"]
            return None

        wait_until(f"the registry tells {repository}:{tag}", look, seconds=_WRITTEN_SECONDS)
        return found

    def tag(self, repository: str, digest: str, tag: str) -> None:
        """Give the image with that digest a (further) tag."""
        path = f"/v2/{repository}/manifests/"
        headers, manifest = self._request("GET", path + digest, {"Accept": _ACCEPTED})
        self._request("PUT", path + tag, {"Content-Type": headers["content-type"]}, manifest)

    def push(self, archive: Path, repository: str, tag: str) -> str:
        """
        Push an image from an OCI layout.

        Args:
            archive: Tar file, as `ScratchImage.write` makes it; one image, a few megabytes.
            repository: Name without the registry's address.
            tag: Tag to push it as.
        Returns: Reference that pods can pull.
        """
        with tarfile.open(archive) as layout:

            def content(name: str) -> bytes:
                member = layout.extractfile(name)
                if member is None:
                    raise ClusterError(f"{archive} has no file {name}: it is no OCI layout")
                return member.read()

            def blob(digest: str) -> bytes:
                return content("blobs/" + digest.replace(":", "/"))

            entry = json.loads(content("index.json"))["manifests"][0]
            manifest = blob(entry["digest"])
            described: dict[str, Any] = json.loads(manifest)
            for part in (described["config"], *described["layers"]):
                self._push_blob(repository, part["digest"], blob(part["digest"]))
            self._request("PUT", f"/v2/{repository}/manifests/{tag}", {"Content-Type": entry["mediaType"]}, manifest)
        return f"{self.address}/{repository}:{tag}"

    def _push_blob(self, repository: str, digest: str, content: bytes) -> None:
        with contextlib.suppress(RegistryRefused):
            self._request("HEAD", f"/v2/{repository}/blobs/{digest}")
            return
        headers, _ = self._request("POST", f"/v2/{repository}/blobs/uploads/")
        place = headers["location"].partition(self.address)[2] or headers["location"]
        joint = "&" if "?" in place else "?"
        self._request("PUT", f"{place}{joint}digest={digest}", {"Content-Type": "application/octet-stream"}, content)

    def _request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> tuple[dict[str, str], bytes]:
        """Send one request; return the answer's headers (names in lower case) and body."""
        connection = http.client.HTTPConnection(OUTSIDE_ADDRESS, self.port, timeout=_ANSWER_SECONDS)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise RegistryRefused(f"{method} {path}", answer.status, content[:500].decode(errors="replace"))
        return {name.lower(): value for name, value in answer.getheaders()}, content


@contextlib.contextmanager
def session_registry() -> Iterator[Registry]:
    """Serve the registry as long as the block runs, with a record of its own: for test sessions."""
    record = Record.create(f"registry-{os.getpid()}-{secrets.token_hex(3)}")
    try:
        group = cgroups.process_group(record.name)
        record.note("cgroup", path=str(group))
        cgroups.make(group)
        yield Registry.serve(record, group)
    finally:
        record.clear()


def empty_if_large(directory: Path, limit_bytes: int) -> None:
    """
    Empty a directory of the cache if it has outgrown its limit and nobody uses it.

    Args:
        directory: It must exist; users hold a lock on the file beside it, `NAME.lock`.
        limit_bytes: Largest size tolerated.
    """
    with open(f"{directory}.lock", "w") as lock:  # noqa: PTH123 - the name has a suffix appended, not replaced
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        size = sum(path.lstat().st_size for path in directory.rglob("*"))
        if size > limit_bytes:
            say(f"emptying {directory}: {size >> 20} MiB are over its limit")
            shutil.rmtree(directory)
            directory.mkdir()


def _free_port() -> int:
    with socket.create_server((OUTSIDE_ADDRESS, 0)) as listener:
        return int(listener.getsockname()[1])
