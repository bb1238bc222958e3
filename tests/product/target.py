"""
A cluster as helm and kubectl reach it: one of tests/cluster, from inside its namespace, or a context of the user's own.

Must not: put anything secret into arguments, which everybody on the machine can read; values go through standard input.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.binaries import binary, cache_directory
from tests.cluster.errors import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.cluster.cluster import Cluster

CHARTS = Path(__file__).parents[2] / "deploy" / "charts"
_KUBECTL_SECONDS = 120.0
_HELM_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where helm and kubectl work, and how they are called to do so."""

    prefix: tuple[str, ...] = ()
    """Words before the program's own, such as nsenter's."""
    kubectl_options: tuple[str, ...]
    """Options that choose the cluster, for kubectl."""
    helm_options: tuple[str, ...]
    """The same for helm."""
    kubectl_program: Path
    """kubectl itself."""

    @property
    def helm_program(self) -> Path:
        """Helm itself, built when first asked for."""
        return binary("helm")

    @classmethod
    def of_cluster(cls, cluster: Cluster) -> Target:
        """Return a cluster of tests/cluster, as its administrator and from inside."""
        choice = (f"--kubeconfig={cluster.kubeconfig}",)
        return cls(
            prefix=("nsenter", f"--net={cluster.netns}", "--"),
            kubectl_options=choice,
            helm_options=choice,
            kubectl_program=binary("kubectl"),
        )

    @classmethod
    def of_context(cls, context: str) -> Target:
        """Return the cluster of a context of the user's kubeconfig, with the user's own kubectl if there is one."""
        found = shutil.which("kubectl")
        return cls(
            kubectl_options=(f"--context={context}",),
            helm_options=(f"--kube-context={context}",),
            kubectl_program=Path(found) if found else binary("kubectl"),
        )

    def kubectl(self, *arguments: str, stdin: str = "", seconds: float = _KUBECTL_SECONDS) -> str:
        """
        Run kubectl.

        Args:
            arguments: Its arguments.
            stdin: Text it reads, for `apply --filename=-`.
            seconds: Deadline.
        Returns: What it wrote to stdout.
        Raises: CommandFailed: It failed or overran the deadline.
        """
        return _run([*self.prefix, str(self.kubectl_program), *self.kubectl_options, *arguments], stdin, seconds)

    def apply(self, manifests: Iterable[Mapping[str, Any]]) -> None:
        """Apply manifests as an administrator would. Raises: CommandFailed: One was refused."""
        self.kubectl(
            "apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*manifests]})
        )

    def install(
        self,
        release: str,
        chart: str | Path,
        namespace: str,
        values: Mapping[str, Any],
        *,
        reuse: bool = False,
        wait_seconds: float = 120.0,
    ) -> str:
        """
        Install a chart, or upgrade it, and wait until its pods are ready.

        Args:
            release: Name of the release.
            chart: Folder of the chart in deploy/charts, or the file of a packaged one.
            namespace: Where; it must exist.
            values: The values, as a mapping.
            reuse: Keep the values of the release and change only those given, as `--reuse-values` does.
            wait_seconds: How long pods may take to be ready.
        Returns: The chart's notes.
        Raises: CommandFailed: A value or an object was refused, or pods did not become ready.
        """
        return self.helm(
            *("upgrade", "--install", release, str(CHARTS / chart), "--namespace", namespace, "--values", "-"),
            *("--wait", f"--timeout={wait_seconds:.0f}s", "--reuse-values" if reuse else "--reset-values"),
            stdin=json.dumps(values),
            seconds=wait_seconds + 60,
        )

    def helm(self, *arguments: str, stdin: str = "", seconds: float = _HELM_SECONDS) -> str:
        """
        Run helm.

        Args:
            arguments: Its arguments.
            stdin: Text it reads, for `--values -`.
            seconds: Deadline.
        Returns: What it wrote to stdout.
        Raises: CommandFailed: It failed or overran the deadline.
        """
        return _run([*self.prefix, str(self.helm_program), *self.helm_options, *arguments], stdin, seconds)


def render(chart: str, release: str, namespace: str, values: Mapping[str, Any], *only: str) -> str:
    """
    Render a chart without a cluster.

    Args:
        chart: Folder of the chart.
        release: Name of the release.
        namespace: Where it would be installed.
        values: The values, as a mapping.
        only: Templates to render, such as "policy.yaml"; none means all. One that renders nothing is an error.
    Returns: YAML documents.
    Raises: CommandFailed: The values were refused.
    """
    chosen = [word for name in only for word in ("--show-only", f"templates/{name}")]
    argv = [str(binary("helm")), "template", release, str(CHARTS / chart), "--namespace", namespace, "--values", "-"]
    return _run([*argv, *chosen], json.dumps(values), _HELM_SECONDS)


def _run(argv: list[str], stdin: str, seconds: float) -> str:
    # Helm's own folders stay out of the user's home.
    helm_home = str(cache_directory() / "helm")
    folders = dict.fromkeys(("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"), helm_home)
    try:
        finished = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=seconds, check=False, env=os.environ | folders
        )
    except subprocess.TimeoutExpired as expired:
        raise CommandFailed(argv, -1, f"no end after {seconds:g} s") from expired
    if finished.returncode:
        raise CommandFailed(argv, finished.returncode, finished.stderr or finished.stdout)
    return finished.stdout
