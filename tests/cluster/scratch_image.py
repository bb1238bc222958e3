"""
Write container images of static binaries: one layer, no shell, no build tool.

The pause image, CoreDNS and the test programs are single static binaries; a build tool would take ten seconds and root
for what is one tar archive inside another. The result is an OCI image layout in a tar file, which both
`ctr images import` and a registry accept, and which is the same to the byte for the same input.

Must not: run a program, or hold anything but regular files and directories.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"

UNPRIVILEGED_USER = 65532
"""User and group id of images that need no identity of their own ("nonroot" of the distroless images)."""


@dataclass(frozen=True, kw_only=True)
class ScratchImage:
    """An image made of files alone."""

    reference: str
    """Full name with tag, as pods write it."""
    files: Mapping[str, Path]
    """Absolute path inside the image to the host's file; each becomes mode 0755."""
    entrypoint: tuple[str, ...]
    """Command the container runs; pods may add arguments."""
    user: int = UNPRIVILEGED_USER
    """User id the container starts with."""
    directories: tuple[str, ...] = field(default=("/tmp",))
    """Directories anybody may write to (mode 1777)."""

    def write(self, archive: Path) -> str:
        """
        Write the image as an OCI layout.

        Args:
            archive: Tar file to create; written beside it first, then renamed, so that a reader never sees half of it.
        Returns: The manifest's digest, `sha256:…`.
        Source: OCI image layout specification 1.1.
        """
        plain = self._layer()
        layer = gzip.compress(plain, compresslevel=6, mtime=0)
        config = _encode(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Entrypoint": list(self.entrypoint), "User": f"{self.user}:{self.user}", "WorkingDir": "/"},
                "rootfs": {"type": "layers", "diff_ids": [_digest(plain)]},
                "history": [{"created_by": "tests/cluster/scratch_image.py"}],
            }
        )
        manifest = _encode(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": _descriptor(_CONFIG_TYPE, config),
                "layers": [_descriptor(_LAYER_TYPE, layer)],
            }
        )
        entry = _descriptor(MANIFEST_TYPE, manifest) | {
            "annotations": {
                "io.containerd.image.name": self.reference,
                "org.opencontainers.image.ref.name": self.reference.rpartition(":")[2],
            },
            "platform": {"architecture": "amd64", "os": "linux"},
        }
        index = _encode({"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [entry]})
        partial = archive.with_name(archive.name + ".partial")
        with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as tar:
            _add(tar, "oci-layout", _encode({"imageLayoutVersion": "1.0.0"}), 0o644)
            for blob in (layer, config, manifest):
                _add(tar, "blobs/sha256/" + _digest(blob).removeprefix("sha256:"), blob, 0o644)
            _add(tar, "index.json", index, 0o644)
        partial.replace(archive)
        return _digest(manifest)

    def _layer(self) -> bytes:
        """Return the only layer as an uncompressed tar archive, its entries sorted."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for directory in sorted(self.directories):
                entry = tarfile.TarInfo(directory.lstrip("/"))
                entry.type = tarfile.DIRTYPE
                entry.mode = 0o1777
                tar.addfile(entry)
            for path, source in sorted(self.files.items()):
                _add(tar, path.lstrip("/"), source.read_bytes(), 0o755)
        return buffer.getvalue()


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = mode
    tar.addfile(entry, io.BytesIO(content))
