"""
Recreation: what to do when a field cannot be changed in place.

Whether that is the trouble is proved, not guessed from words: the object would be accepted if it were new, and is
refused as a change of the live one. Then it may be deleted and made again, if the operator allows it for its kind and
the deployment's signers consented, and never where something kept would be lost with it. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fairlead_agent.apply.findings import Finding, findings_of
from fairlead_agent.errors import InvalidObject, KubeError
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_agent.policy import NEVER_RECREATED
from fairlead_agent.ports import DeployWork
from fairlead_shared.errors import ErrorCode
from fairlead_shared.objects import ObjectRef
from fairlead_shared.statement import Consent

_PROBE_SUFFIX = "-fairlead-probe"
_NAME_CHARACTERS = 63 - len(_PROBE_SUFFIX)
"""Shortest limit of all kinds' names, that of a Service."""
_PODS_END = "its pods end, and it serves nothing until new ones are ready"
_LOSSES: Mapping[tuple[str, str], str] = {
    ("apps", "Deployment"): _PODS_END,
    ("apps", "DaemonSet"): _PODS_END,
    ("apps", "ReplicaSet"): _PODS_END,
    ("apps", "StatefulSet"): _PODS_END,
    ("batch", "Job"): "its pods and their logs go, and it runs again from its start",
    ("batch", "CronJob"): "its Jobs go with their pods and logs",
    ("", "Pod"): "it ends, and what it kept in itself is lost",
    ("", "Service"): "it gets another cluster IP, and nothing is reached through it meanwhile",
    ("", "ConfigMap"): "pods that start meanwhile wait for it",
    ("", "Secret"): "pods that start meanwhile wait for it",
}
_LOSS = "it does not exist for a moment, and what its controller keeps for it may go with it"


def under_another_name(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest under a name that nothing has, to be dry-run as a new object."""
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "name": metadata["name"][:_NAME_CHARACTERS] + _PROBE_SUFFIX}}


async def is_immutable_alone(client: KubeClient, resource: Resource, manifest: Mapping[str, Any]) -> bool:
    """
    Tell whether a manifest that was refused as a change would be accepted as a new object.

    Raises: KubeError: temporary ones.
    """
    try:
        await client.create(resource, under_another_name(manifest), dry_run=True)
    except KubeError as error:
        if error.temporary:
            raise
        return False
    return True


def judge_recreation(
    error: InvalidObject, ref: ObjectRef, work: DeployWork, live: Mapping[str, Any], manifest: Mapping[str, Any]
) -> tuple[list[Finding], bool]:
    """
    Say whether an object whose change was refused may be deleted and made again.

    Args:
        error: The refusal; what it blames cannot be changed in place.
        ref: The object.
        work: The deployment and the operator's rules.
        live: The object as it is.
        manifest: The object as it is wanted.
    Returns: What to report, and whether it may: then these are warnings that state the loss.
    """
    loss = _LOSSES.get((ref.group, ref.kind), _LOSS)
    findings = [
        replace(finding, code=ErrorCode.IMMUTABLE, message=f"it cannot be changed in place: {finding.message}")
        for finding in findings_of(error, ref)
    ]
    remedy = ""
    if (ref.group, ref.kind) in NEVER_RECREATED:
        remedy = f"make one of another name; a {ref.kind} is never made again, since what it holds would be lost"
    elif _claims(live) != _claims(manifest):
        remedy = "make one of another name; with other volume claims it would start without the data it has"
    elif not work.policy.may_recreate(ref):
        remedy = (
            f"make one of another name, or let the operator allow it:\nrecreate:\n"
            f'- group: "{ref.group}"\n  kind: {ref.kind}\n'
        )
    elif Consent.RECREATE not in work.statement.consents:
        remedy = f"deploy with --recreate to delete it and make it again: {loss}"
    if remedy:
        return [replace(finding, remedy=remedy) for finding in findings], False
    stated = f"it will be deleted and made again: {loss}"
    return [replace(one, message=f"{one.message}; {stated}", severity="warning") for one in findings], True


def _claims(manifest: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return what a StatefulSet asks for as volumes, without what the API server fills in."""
    if manifest.get("kind") != "StatefulSet":
        return []
    templates = (manifest.get("spec") or {}).get("volumeClaimTemplates")
    return [
        (
            template.get("metadata", {}).get("name"),
            template.get("spec", {}).get("resources"),
            sorted(template.get("spec", {}).get("accessModes") or []),
        )
        for template in templates or []
    ]
