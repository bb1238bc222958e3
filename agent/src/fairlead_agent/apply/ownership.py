"""
Ownership: whose a live object is, whether a deployment may take it over, and how its fields change hands. Pure: no I/O.

An object of another environment is never taken over. One that somebody else made is, if the deployment's signers
consented and the operator's policy lists who made it. Its fields are then moved to Fairlead's own entry first, as
kubectl does when it leaves client-side apply: what the maker once wrote and the manifest no longer names goes away,
instead of staying for ever as a field of a manager that never writes again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairlead_agent.apply.findings import Finding
from fairlead_agent.apply.inventory import ENVIRONMENT_ANNOTATION, OWNER_LABEL
from fairlead_agent.apply.makers import Maker, is_manager_of, maker_of
from fairlead_agent.kube.client import FIELD_MANAGER
from fairlead_agent.ports import DeployWork
from fairlead_shared.errors import ErrorCode
from fairlead_shared.objects import ObjectRef
from fairlead_shared.statement import Consent

_CONSENT_REMEDY = "deploy with --adopt to take it over, rename it, or delete the live object first"


def judge(live: Mapping[str, Any], ref: ObjectRef, work: DeployWork) -> Finding | Maker | None:
    """
    Say whose a live object is.

    Returns: None if it is this environment's; its maker if it may be taken over; else a finding that says why not.
    """
    metadata = live["metadata"]
    owner = (metadata.get("labels") or {}).get(OWNER_LABEL)
    if owner == work.environment.owner:
        return None
    if owner:
        named = (metadata.get("annotations") or {}).get(ENVIRONMENT_ANNOTATION, owner)
        message = f"it belongs to another environment, {named}"
        remedy = "rename it, or remove it from the other environment"
        return Finding(ErrorCode.OWNED_BY_OTHER, message, ref, remedy=remedy)
    maker = maker_of(live)
    message = f"it is there already and was not made by Fairlead ({_traces(live, maker)})"
    if maker not in work.policy.adopt:
        remedy = f"rename it, or delete it first; the operator may let deployments take it over: adopt: [{maker}]"
        return Finding(ErrorCode.OWNED_BY_OTHER, message, ref, remedy=remedy)
    if Consent.ADOPT not in work.statement.consents:
        return Finding(ErrorCode.OWNED_BY_OTHER, message, ref, remedy=_CONSENT_REMEDY)
    return maker


def taken_over(live: Mapping[str, Any], maker: Maker) -> list[dict[str, Any]]:
    """
    Return the managedFields of a live object after its maker's fields were moved to Fairlead.

    Source: https://github.com/kubernetes/client-go/blob/master/util/csaupgrade/upgrade.go (what it does, not how)
    """
    kept: list[dict[str, Any]] = []
    ours: dict[str, Any] | None = None
    for entry in live["metadata"].get("managedFields") or []:
        is_ours = (entry.get("manager"), entry.get("operation")) == (FIELD_MANAGER, "Apply")
        is_theirs = is_manager_of(maker, str(entry.get("manager", "")))
        if entry.get("subresource") or not (is_ours or is_theirs):
            kept.append(dict(entry))
        elif ours is None:
            ours = {**entry, "manager": FIELD_MANAGER, "operation": "Apply"}
        else:
            ours["fieldsV1"] = joined(ours.get("fieldsV1") or {}, entry.get("fieldsV1") or {})
            ours["apiVersion"] = entry["apiVersion"]
    return kept if ours is None else [*kept, ours]


def renewed(live: Mapping[str, Any], gone: str, version: str) -> list[dict[str, Any]]:
    """
    Return the managedFields of a live object with one version of its kind in place of another, for every manager.

    Args:
        live: The object.
        gone: `GROUP/VERSION` that is no longer served.
        version: `GROUP/VERSION` that is.
    """
    kept: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry in live["metadata"].get("managedFields") or []:
        new = {**entry, "apiVersion": version} if entry.get("apiVersion") == gone else dict(entry)
        whose = tuple(str(new.get(name, "")) for name in ("manager", "operation", "subresource", "apiVersion"))
        if whose in kept:
            new["fieldsV1"] = joined(kept[whose].get("fieldsV1") or {}, new.get("fieldsV1") or {})
        kept[whose] = new
    return list(kept.values())


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the union of two sets of fields.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/ (FieldsV1)
    """
    if not first or not second:
        # An empty mapping is the field itself, which beside fields below it is written as ".".
        return {} if not first and not second else {".": {}, **(first or second)}
    union = {name: fields for name, fields in first.items() if name not in second}
    union |= {name: joined(first[name], fields) if name in first else fields for name, fields in second.items()}
    return union


def _traces(live: Mapping[str, Any], maker: Maker) -> str:
    """Say what shows who made it, as the live object tells."""
    metadata = live["metadata"]
    managers = {entry.get("manager"): None for entry in metadata.get("managedFields") or [] if entry.get("manager")}
    tool = (metadata.get("labels") or {}).get("app.kubernetes.io/managed-by")
    names = [*([str(tool)] if tool else []), *map(str, managers)]
    kept = "" if maker in {Maker.OTHER, Maker.KUBECTL} else f"kept by {maker}, "
    return f"{kept}made by {', '.join(names) or 'somebody else'}"
