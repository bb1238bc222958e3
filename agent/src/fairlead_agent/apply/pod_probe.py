"""
Pod probes: one pod of each workload is dry-run, because the dry-run of a Deployment does not show what its pods meet.

Quota, LimitRange, Pod Security and webhooks speak when a pod is created, minutes after the Deployment was accepted;
here they speak before the first write. Where the agent may not create pods nothing is tried. Writes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairlead_agent.apply.findings import Finding, Severity
from fairlead_agent.apply.planning import Planned
from fairlead_agent.apply.references import POD_TEMPLATES, Identity
from fairlead_agent.apply.wanted import WantedObjects
from fairlead_agent.errors import AdmissionDenied, InvalidObject, KubeError, MissingRight
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import PODS
from fairlead_agent.together import together
from fairlead_shared.errors import ErrorCode
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import Action

_REPLICATED = frozenset({("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "ReplicaSet")})
_NAME = "fairlead-probe-"
_Try = tuple[ObjectRef, Planned, dict[str, Any]]
"""A workload, what will become of it, and a pod of it."""


class PodProbe:
    """
    Dry-runs pods for the workloads of one deployment.

    Args:
        client: Of the cluster.
        wanted: The deployment's objects.
    """

    def __init__(self, client: KubeClient, wanted: WantedObjects) -> None:
        self.untried: set[str] = set()
        """Namespaces where the agent may not create pods, so that none was tried."""
        self._client = client
        self._wanted = wanted

    async def run(self, places: Iterable[int], planned: Mapping[int, Planned]) -> list[Finding]:
        """
        Dry-run one pod for each workload that is to be written and makes pods.

        Args:
            places: Which objects, in namespaces that are there.
            planned: What will become of each object of the bundle.
        Returns: What the pods would meet.
        Raises: KubeError: temporary ones.
        """
        made_here = {ref.identity for ref in self._wanted.refs}
        tried: dict[bytes, _Try] = {}
        for place in places:
            if place in planned and planned[place].write:
                ref = self._wanted.refs[place]
                pod = pod_of(self._wanted[place], ref, made_here)
                if pod is not None:
                    digest = hashlib.sha256(json.dumps(pod, sort_keys=True).encode()).digest()
                    tried.setdefault(digest, (ref, planned[place], pod))
        by_namespace: dict[str, list[_Try]] = {}
        for one in tried.values():
            by_namespace.setdefault(one[0].namespace, []).append(one)
        found = await together(self._try_all(ones) for ones in by_namespace.values())
        return [finding for findings in found for finding in findings]

    async def _try_all(self, ones: Sequence[_Try]) -> list[Finding]:
        """Try the pods of one namespace: one alone first, for where the right is missing it is missing for all."""
        findings = await self._try(*ones[0])
        if ones[0][0].namespace not in self.untried:
            for more in await together(self._try(*one) for one in ones[1:]):
                findings += more
        return findings

    async def _try(self, ref: ObjectRef, planned: Planned, pod: Mapping[str, Any]) -> list[Finding]:
        try:
            await self._client.create(PODS, pod, dry_run=True)
        except MissingRight:
            self.untried.add(ref.namespace)
            return []
        except AdmissionDenied as error:
            # Pods that a change replaces make room in a quota as they go.
            is_room = "exceeded quota" in error.message and planned.action is not Action.CREATED
            return [_finding(ref, error.message, "warning" if is_room else "error")]
        except InvalidObject as error:
            return [_finding(ref, error.message, "error")]
        except KubeError as error:
            if error.temporary:
                raise
            return [_finding(ref, str(error), "warning")]
        return []


def _finding(ref: ObjectRef, message: str, severity: Severity) -> Finding:
    where = ".".join(POD_TEMPLATES[ref.group, ref.kind][:-1])
    text = message.replace(f'pods "{_NAME}', 'pods "')
    return Finding(ErrorCode.INVALID_OBJECT, f"its pods would be refused: {text}", ref, field=where, severity=severity)


def pod_of(manifest: Mapping[str, Any], ref: ObjectRef, made_here: set[Identity]) -> dict[str, Any] | None:
    """Return a pod as its controller would make it; None for what makes none."""
    where = POD_TEMPLATES.get((ref.group, ref.kind))
    spec = manifest.get("spec")
    if where is None or len(where) == 1 or not isinstance(spec, Mapping):
        return None
    if (ref.group, ref.kind) in _REPLICATED and spec.get("replicas", 1) == 0:
        return None
    template: Any = manifest
    for field in where[:-1]:
        template = template.get(field) if isinstance(template, Mapping) else None
    if not isinstance(template, Mapping) or not isinstance(template.get("spec"), Mapping):
        return None
    metadata, pod = template.get("metadata") or {}, dict(template["spec"])
    # What this bundle makes is not there yet, and admission looks it up.
    account = pod.get("serviceAccountName") or pod.get("serviceAccount")
    if ("", "ServiceAccount", ref.namespace, account) in made_here:
        pod.pop("serviceAccountName", None)
        pod.pop("serviceAccount", None)
    if ("scheduling.k8s.io", "PriorityClass", "", pod.get("priorityClassName")) in made_here:
        del pod["priorityClassName"]
    volumes = list(pod.get("volumes") or [])
    volumes += [
        {"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-{ref.name}-0"}}
        for claim in _names(spec.get("volumeClaimTemplates"))
    ]
    if volumes:
        pod["volumes"] = volumes
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{_NAME}{ref.name}"[:253],
            "namespace": ref.namespace,
            "labels": metadata.get("labels") or {},
            "annotations": metadata.get("annotations") or {},
        },
        "spec": pod,
    }


def _names(templates: object) -> Sequence[str]:
    return [
        str(one["metadata"]["name"])
        for one in (templates if isinstance(templates, list) else [])
        if isinstance(one, Mapping) and isinstance(one.get("metadata"), Mapping) and one["metadata"].get("name")
    ]
