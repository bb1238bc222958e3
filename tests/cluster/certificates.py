"""
Start cert-manager's controllers where a test asks for them, so that Certificates are issued.

It runs as a process in the first node's namespace, with the definitions of its own module and without its webhook: what
is no sound Certificate is refused by their schema alone. Must not: be started for a cluster that does not ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.binaries import binary, module_directory
from tests.cluster.progress import step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.cluster import Cluster

PROGRAM = "cert-manager"
"""Program it is built from, and its process."""
_MODULE = "github.com/cert-manager/cert-manager"


def certificate_definitions() -> list[Path]:
    """Return the files of cert-manager's CRDs. Raises: BuildFailed: its module cannot be had."""
    return sorted((module_directory(PROGRAM, _MODULE) / "deploy" / "crds").glob("cert-manager.io_*.yaml"))


def ensure_cert_manager(cluster: Cluster) -> None:
    """
    Have a cluster issue Certificates by Issuers that sign themselves or by a CA, unless it does already.

    Raises:
        BuildFailed: The program cannot be built.
        ClusterError: The cluster refused its definitions.
    """
    program = binary(PROGRAM)
    with step(f"starting {PROGRAM} in {cluster.name}", 5):
        if cluster.runs(PROGRAM):
            return
        files = [f"--filename={file}" for file in certificate_definitions()]
        cluster.kubectl("apply", "--server-side", *files)
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=120s", *files)
        cluster.spawn(PROGRAM, [str(program)], env={"KUBECONFIG": str(cluster.kubeconfig)})
