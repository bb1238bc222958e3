"""
Rules: the health of one object by its own spec and status. Pure: no I/O.

For the built-in kinds that can be unhealthy, and a careful general rule for custom resources. A status older than the
spec (observedGeneration) proves nothing yet.

Source: https://kubernetes.io/docs/concepts/workloads/ (the status of each kind). Custom resources are expected to name
conditions as the API conventions of sig-architecture ask ("Typical status properties").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fairlead_agent.health.verdict import HEALTHY, Verdict
from fairlead_shared.progress import HealthStatus

UNOBSERVED = Verdict(HealthStatus.PROGRESSING, "the controller has not seen the change yet")

Rule = Callable[[Mapping[str, Any]], Verdict]
"""Projected object (verdict.projected) → verdict."""


def verdict_of(group: str, kind: str, kept: Mapping[str, Any]) -> Verdict:
    """
    Return the verdict on an object by itself, its pods not considered.

    Args:
        group: API group.
        kind: Kind.
        kept: The object, projected.
    """
    metadata = kept["metadata"]
    if metadata.get("deletionTimestamp"):
        finalizers = ", ".join(metadata.get("finalizers") or [])
        waits = f" and waits for its finalizers ({finalizers})" if finalizers else ""
        return Verdict(HealthStatus.PROGRESSING, f"it is being deleted{waits}")
    return RULES.get((group, kind), _custom)(kept)


def has_ended(kept: Mapping[str, Any]) -> bool:
    """Tell whether a Job, or a pod, projected, ended well."""
    return _condition(kept, "Complete").get("status") == "True" or kept["status"].get("phase") == "Succeeded"


def _deployment(kept: Mapping[str, Any]) -> Verdict:
    spec, status = kept["spec"], kept["status"]
    if not _is_observed(kept):
        return UNOBSERVED
    failure = _condition(kept, "ReplicaFailure")
    if failure.get("status") == "True":
        return Verdict(HealthStatus.DEGRADED, f"its pods cannot be created: {failure.get('message', '')}")
    wanted = spec.get("replicas", 1)
    updated, total, available = (status.get(name, 0) for name in ("updatedReplicas", "replicas", "availableReplicas"))
    complete = updated >= wanted and total <= updated and available >= updated
    if complete and available >= wanted:
        return HEALTHY
    if spec.get("paused"):
        return Verdict(HealthStatus.SUSPENDED, "its roll-out is paused")
    progress = _condition(kept, "Progressing")
    if progress.get("status") == "False" and progress.get("reason") == "ProgressDeadlineExceeded":
        return Verdict(
            HealthStatus.DEGRADED, f"{available} of {wanted} pods are available, and its progress deadline passed"
        )
    if updated < wanted:
        return _progressing(f"{updated} of {wanted} pods are updated")
    if total > updated:
        return _progressing(f"{total - updated} old pods are still there")
    return _progressing(f"{available} of {wanted} pods are available")


def _replica_set(kept: Mapping[str, Any]) -> Verdict:
    if not _is_observed(kept):
        return UNOBSERVED
    failure = _condition(kept, "ReplicaFailure")
    if failure.get("status") == "True":
        return Verdict(HealthStatus.DEGRADED, f"its pods cannot be created: {failure.get('message', '')}")
    wanted, available = kept["spec"].get("replicas", 1), kept["status"].get("availableReplicas", 0)
    return HEALTHY if available >= wanted else _progressing(f"{available} of {wanted} pods are available")


def _stateful_set(kept: Mapping[str, Any]) -> Verdict:
    spec, status = kept["spec"], kept["status"]
    if not _is_observed(kept):
        return UNOBSERVED
    wanted = spec.get("replicas", 1)
    ready = status.get("availableReplicas", status.get("readyReplicas", 0))
    if ready < wanted:
        return _progressing(f"{ready} of {wanted} pods are available")
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return HEALTHY
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    updated = status.get("updatedReplicas", 0)
    if status.get("updateRevision") != status.get("currentRevision") and updated < wanted - partition:
        return _progressing(f"{updated} of {wanted - partition} pods are updated")
    return HEALTHY


def _daemon_set(kept: Mapping[str, Any]) -> Verdict:
    status = kept["status"]
    if not _is_observed(kept):
        return UNOBSERVED
    wanted = status.get("desiredNumberScheduled", 0)
    updated, available = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
    on_delete = (kept["spec"].get("updateStrategy") or {}).get("type") == "OnDelete"
    if updated < wanted and not on_delete:
        return _progressing(f"{updated} of {wanted} pods are updated")
    return HEALTHY if available >= wanted else _progressing(f"{available} of {wanted} pods are available")


def _job(kept: Mapping[str, Any]) -> Verdict:
    status = kept["status"]
    failed = _condition(kept, "Failed")
    if failed.get("status") == "True":
        return Verdict(HealthStatus.DEGRADED, f"it failed: {_said(failed)}", final=True)
    if _condition(kept, "Complete").get("status") == "True":
        return HEALTHY
    if kept["spec"].get("suspend"):
        return Verdict(HealthStatus.SUSPENDED, "it is suspended")
    failures = status.get("failed", 0)
    return _progressing(f"it runs, {failures} of its pods failed" if failures else "it runs")


def _cron_job(kept: Mapping[str, Any]) -> Verdict:
    return Verdict(HealthStatus.SUSPENDED, "it is suspended") if kept["spec"].get("suspend") else HEALTHY


def _claim(kept: Mapping[str, Any]) -> Verdict:
    phase = kept["status"].get("phase", "Pending")
    if phase == "Bound":
        return HEALTHY
    if phase == "Lost":
        return Verdict(HealthStatus.DEGRADED, "its volume is gone", final=True)
    return _progressing("it is not bound to a volume yet")


def _service(kept: Mapping[str, Any]) -> Verdict:
    if kept["spec"].get("type") != "LoadBalancer" or (kept["status"].get("loadBalancer") or {}).get("ingress"):
        return HEALTHY
    return _progressing("it has no load balancer yet")


def _namespace(kept: Mapping[str, Any]) -> Verdict:
    phase = kept["status"].get("phase", "Active")
    return HEALTHY if phase == "Active" else _progressing(f"it is {phase}")


def _definition(kept: Mapping[str, Any]) -> Verdict:
    accepted = _condition(kept, "NamesAccepted")
    if accepted.get("status") == "False":
        return Verdict(HealthStatus.DEGRADED, f"its names were not accepted: {_said(accepted)}", final=True)
    if _condition(kept, "Established").get("status") == "True":
        return HEALTHY
    return _progressing("it is not established yet")


def _api_service(kept: Mapping[str, Any]) -> Verdict:
    available = _condition(kept, "Available")
    if available.get("status") == "True":
        return HEALTHY
    return _progressing(f"it is not available: {_said(available)}" if available else "it is not available yet")


def _pod(kept: Mapping[str, Any]) -> Verdict:
    phase = kept["status"].get("phase", "Pending")
    if phase == "Succeeded" or (phase == "Running" and _condition(kept, "Ready").get("status") == "True"):
        return HEALTHY
    if phase == "Failed":
        said = kept["status"].get("message") or kept["status"].get("reason") or "its containers failed"
        return Verdict(HealthStatus.DEGRADED, f"it failed: {said}", final=True)
    return _progressing("it is not ready yet")


_BAD_WHEN_TRUE = ("Stalled", "Degraded", "Failed", "Failure", "Error", "ReconcileError")
_BUSY_WHEN_TRUE = ("Reconciling", "Progressing", "Issuing")
_GOOD_WHEN_TRUE = ("Ready", "Available", "Synced", "Healthy", "Established", "Succeeded", "Programmed", "Accepted")


def _custom(kept: Mapping[str, Any]) -> Verdict:
    """Judge by conditions whose names have a known meaning; without any, existing is all that can be asked."""
    if not _is_observed(kept, required=False):
        return _progressing("its controller has not seen the change yet")
    generation = kept["metadata"].get("generation", 0)
    conditions = {
        str(entry.get("type")): entry
        for entry in _conditions(kept)
        if (observed := _observed(entry)) is None or observed >= generation
    }
    for name in _BAD_WHEN_TRUE:
        if conditions.get(name, {}).get("status") == "True":
            return Verdict(HealthStatus.DEGRADED, f"{name}: {_said(conditions[name])}")
    decisive = next((conditions[name] for name in _GOOD_WHEN_TRUE if name in conditions), None)
    if decisive is not None and decisive.get("status") != "True":
        return _progressing(f"{decisive['type']} is {decisive.get('status')}: {_said(decisive)}")
    if decisive is None:
        for name in _BUSY_WHEN_TRUE:
            if conditions.get(name, {}).get("status") == "True":
                return _progressing(f"{name}: {_said(conditions[name])}")
    return HEALTHY


def _progressing(cause: str) -> Verdict:
    return Verdict(HealthStatus.PROGRESSING, cause)


def _is_observed(kept: Mapping[str, Any], *, required: bool = True) -> bool:
    observed = _observed(kept["status"])
    if observed is None:
        return not required
    return bool(observed >= kept["metadata"].get("generation", 0))


def _observed(said: Mapping[str, Any]) -> int | None:
    """Return the generation that a status or a condition is about; None if it names none."""
    observed = said.get("observedGeneration")
    return observed if isinstance(observed, int) else None


def _conditions(kept: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the conditions; of a custom resource they may be of any shape, and others look through its watch, too."""
    found = kept["status"].get("conditions")
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def _condition(kept: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return next((entry for entry in _conditions(kept) if entry.get("type") == name), {})


def _said(condition: Mapping[str, Any]) -> str:
    """Return what a condition says of itself."""
    return str(condition.get("message") or condition.get("reason") or "no reason given")


RULES: Mapping[tuple[str, str], Rule] = MappingProxyType(
    {
        ("", "Pod"): _pod,
        ("", "Service"): _service,
        ("", "PersistentVolumeClaim"): _claim,
        ("", "Namespace"): _namespace,
        ("apps", "Deployment"): _deployment,
        ("apps", "ReplicaSet"): _replica_set,
        ("apps", "StatefulSet"): _stateful_set,
        ("apps", "DaemonSet"): _daemon_set,
        ("batch", "Job"): _job,
        ("batch", "CronJob"): _cron_job,
        ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
        ("apiregistration.k8s.io", "APIService"): _api_service,
    }
)
"""Kinds that may be unhealthy though they exist; other built-in kinds are healthy when they exist."""

WORKLOADS = frozenset(
    {
        ("", "Pod"),
        ("apps", "Deployment"),
        ("apps", "ReplicaSet"),
        ("apps", "StatefulSet"),
        ("apps", "DaemonSet"),
        ("batch", "Job"),
    }
)
"""Kinds whose cause is found in pods."""
