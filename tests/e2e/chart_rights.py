"""
Give an agent that runs outside a pod exactly what its chart would give it: ServiceAccount, Roles and policy.

Most e2e tests run the agent as a process, for speed. Its rights must be the chart's all the same, or they would prove
nothing about an installation; so they are rendered by helm and nothing is written down twice. Must not: add a right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tests.product.target import render

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.cluster.cluster import Cluster

RELEASE = "fairlead-agent"
NAMESPACE = "fairlead"
_RELAY_URL = "wss://relay.invalid:7444"
"""The chart asks for one; nothing that is applied here holds it."""


@dataclass(frozen=True, kw_only=True)
class ChartRights:
    """What was applied."""

    namespace: str
    """The agent's own namespace."""
    service_account: str
    """Name of its ServiceAccount there."""
    policy: str
    """Text of the policy file, as the chart's ConfigMap holds it."""

    def write_policy(self, path: Path) -> Path:
        """Write the policy to a file, and return it."""
        path.write_text(self.policy)
        return path


def apply_chart_rights(
    cluster: Cluster, values: Mapping[str, Any], *, namespace: str = NAMESPACE, release: str = RELEASE
) -> ChartRights:
    """
    Apply what the agent's chart makes, except the Deployment and the enrolment Secret.

    Args:
        cluster: Where. Namespaces are made if missing: the agent's, and those bound.
        values: The chart's values; `policy` at least. The relay's URL need not be given.
        namespace: The agent's own namespace.
        release: Name of the release, and so of the ServiceAccount.
    Returns: What was applied.
    Raises:
        CommandFailed: The values were refused.
        ClusterError: The API server refused an object.
    """
    templates = ["serviceaccount.yaml", "own-role.yaml", "policy.yaml"]
    bindings = values.get("policy", {}).get("bindings", [])
    templates += ["bound-roles.yaml"] if bindings else []
    templates += ["cluster-role.yaml"] if values.get("clusterRights") else []
    text = render("fairlead-agent", release, namespace, {"relay": {"url": _RELAY_URL}} | dict(values), *templates)
    manifests = [manifest for manifest in yaml.safe_load_all(text) if manifest]
    for name in sorted({namespace, *(binding["namespace"] for binding in bindings)}):
        made = cluster.kubectl("create", "namespace", name, check=False)
        if made.returncode and "AlreadyExists" not in made.stderr:
            cluster.kubectl("get", "namespace", name)  # raises with the reason
    cluster.kubectl("apply", "--filename=-", input=yaml.safe_dump_all(manifests))
    policy = next(manifest for manifest in manifests if manifest["kind"] == "ConfigMap")["data"]["policy.yaml"]
    return ChartRights(namespace=namespace, service_account=release, policy=policy)
