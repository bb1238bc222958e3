"""
What one object of a deployment takes of the quotas of its namespace, beyond what it holds already. Pure: no I/O.

Works on objects as the API server would make them, so that defaults and what others set (the replicas of an autoscaler)
count. What a roll-out takes for a while, its surge, is kept apart from what stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from fairlead_agent.apply.pod_usage import Amounts, added, amount_of, usage_of_pod
from fairlead_agent.apply.references import POD_TEMPLATES
from fairlead_agent.kube.resources import Resource
from fairlead_shared.objects import ObjectRef

_COUNTED = frozenset(
    {"configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services"}
)
"""Core resources that a quota also counts by their bare name."""
_ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class PodSet:
    """The pods of one object."""

    count: int
    spec: Mapping[str, Any]
    """Of each of them, as admission would leave it."""

    @property
    def usage(self) -> Amounts:
        """What one of them counts for."""
        return usage_of_pod(self.spec)


@dataclass(frozen=True, slots=True)
class Demand:
    """What one object takes."""

    ref: ObjectRef
    objects: Amounts
    """Counts of objects, ports and storage: more, or less, than now."""
    wanted: PodSet | None
    """Its pods once it is rolled out; None for what makes none."""
    held: PodSet | None = None
    """Its pods now; None if there are none."""
    surge: int = 0
    """Pods more than wanted that a roll-out makes for a while."""
    may_shrink: bool = True
    """Whether a roll-out may take pods away before it makes new ones."""


def pod_spec(resource: Resource, manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the spec of an object's pods as its template has it; None for what makes none, or none by itself."""
    where = POD_TEMPLATES.get((resource.group, resource.kind))
    if where is None or resource.kind == "CronJob":
        return None
    value: object = manifest
    for field in where:
        value = value.get(field) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else None


def pods_wanted(resource: Resource, manifest: Mapping[str, Any], live: Mapping[str, Any] | None) -> int | None:
    """Return how many pods an object makes in the end; None where only the cluster's nodes will tell."""
    spec = manifest.get("spec") or {}
    match resource.kind:
        case "Pod":
            return 1
        case "Job":
            parallel = _one_unless_said(spec.get("parallelism"))
            return 0 if spec.get("suspend") else min(parallel, int(spec.get("completions") or parallel))
        case "DaemonSet":
            desired = ((live or {}).get("status") or {}).get("desiredNumberScheduled")
            return None if desired is None else int(desired)
        case _:
            return _one_unless_said(spec.get("replicas"))


def pods_held(resource: Resource, live: Mapping[str, Any]) -> int:
    """Return how many pods a live object has now."""
    status = live.get("status") or {}
    match resource.kind:
        case "Pod":
            return 0 if status.get("phase") in {"Succeeded", "Failed"} else 1
        case "Job":
            return int(status.get("active", 0))
        case "DaemonSet":
            return int(status.get("currentNumberScheduled", 0))
        case _:
            return int(status.get("replicas", 0))


def roll_out(resource: Resource, manifest: Mapping[str, Any], wanted: int) -> tuple[int, bool]:
    """
    Return how many pods more than wanted a roll-out may make, and whether it may take some away first.

    Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment
    """
    spec = manifest.get("spec") or {}
    if resource.kind not in {"Deployment", "DaemonSet"}:
        return 0, True
    strategy = spec.get("strategy" if resource.kind == "Deployment" else "updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return 0, True
    rolling = strategy.get("rollingUpdate") or {}
    is_deployment = resource.kind == "Deployment"
    surge = _share(rolling.get("maxSurge", "25%" if is_deployment else 0), wanted, ROUND_CEILING)
    rounding = ROUND_FLOOR if is_deployment else ROUND_CEILING
    away = _share(rolling.get("maxUnavailable", "25%" if is_deployment else 1), wanted, rounding)
    return surge, away > 0 or surge == 0


def usage_of_object(resource: Resource, manifest: Mapping[str, Any]) -> Amounts:
    """Return what an object counts for besides its pods."""
    group = f".{resource.group}" if resource.group else ""
    spec = manifest.get("spec") or {}
    counted: Amounts = {} if resource.kind == "Pod" else {f"count/{resource.plural}{group}": _ONE}
    if not resource.group and resource.plural in _COUNTED:
        counted[resource.plural] = _ONE
    match (resource.group, resource.kind):
        case ("", "Service"):
            counted |= _of_service(spec)
        case ("", "PersistentVolumeClaim"):
            counted |= _of_storage(spec)
        case ("apps", "StatefulSet"):
            claims = [_of_claim(one.get("spec") or {}) for one in spec.get("volumeClaimTemplates") or []]
            counted = added(counted, added(*claims, times=_one_unless_said(spec.get("replicas"))))
        case _:
            pass
    return counted


def less(one: Mapping[str, Decimal], other: Mapping[str, Decimal]) -> Amounts:
    """Return the first without the second, which may leave less than nothing."""
    return added(one, added(other, times=-1))


def _one_unless_said(value: Any) -> int:  # noqa: ANN401  (JSON)
    """Return a number, for which a manifest may have null: what is made again is counted as the bundle has it."""
    return 1 if value is None else int(value)


def _of_service(spec: Mapping[str, Any]) -> Amounts:
    is_balanced = spec.get("type") == "LoadBalancer"
    ports = Decimal(len(spec.get("ports") or []))
    if not is_balanced:
        return {"services.nodeports": ports} if spec.get("type") == "NodePort" else {}
    has_ports = spec.get("allocateLoadBalancerNodePorts", True)
    return {"services.loadbalancers": _ONE, **({"services.nodeports": ports} if has_ports else {})}


def _of_claim(spec: Mapping[str, Any]) -> Amounts:
    return {"count/persistentvolumeclaims": _ONE, "persistentvolumeclaims": _ONE, **_of_storage(spec)}


def _of_storage(spec: Mapping[str, Any]) -> Amounts:
    storage = amount_of(((spec.get("resources") or {}).get("requests") or {}).get("storage", 0))
    counted: Amounts = {"requests.storage": storage}
    if name := spec.get("storageClassName"):
        of_class = f"{name}.storageclass.storage.k8s.io"
        counted |= {f"{of_class}/requests.storage": storage, f"{of_class}/persistentvolumeclaims": _ONE}
    return counted


def _share(value: object, of: int, rounding: str) -> int:
    text = str(value)
    if text.endswith("%"):
        return int((amount_of(text[:-1]) * of / 100).to_integral_value(rounding))
    return int(amount_of(text))
