"""The verdict on each kind by its own status."""

from typing import Any

import pytest

from fairlead_agent.health.rules import verdict_of
from fairlead_agent.health.verdict import projected
from fairlead_shared.progress import HealthStatus

Healthy, Progressing, Degraded, Suspended = (
    HealthStatus.HEALTHY,
    HealthStatus.PROGRESSING,
    HealthStatus.DEGRADED,
    HealthStatus.SUSPENDED,
)
NOT_SEEN = {"observedGeneration": 1}
SEEN = {"observedGeneration": 2}


def condition(name: str, status: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a status with one condition, as of the present generation."""
    return {**SEEN, "conditions": [{"type": name, "status": status, **fields}]}


def judge(group: str, kind: str, spec: dict[str, Any], status: dict[str, Any]) -> Any:  # noqa: ANN401
    """Return the verdict on an object of generation 2."""
    kept = projected({"metadata": {"name": "x", "generation": 2}, "spec": spec, "status": status})
    return verdict_of(group, kind, kept)


READY = {**SEEN, "updatedReplicas": 2, "replicas": 2, "availableReplicas": 2}


@pytest.mark.parametrize(
    ("spec", "status", "expected", "said"),
    [
        ({"replicas": 2}, READY, Healthy, ""),
        ({"replicas": 0}, SEEN, Healthy, ""),
        ({"replicas": 2}, {**READY, **NOT_SEEN}, Progressing, "has not seen"),
        ({"replicas": 2}, {}, Progressing, "has not seen"),
        ({"replicas": 2}, {**READY, "updatedReplicas": 1}, Progressing, "1 of 2 pods are updated"),
        ({"replicas": 2}, {**READY, "replicas": 3}, Progressing, "1 old pods"),
        ({"replicas": 2}, {**READY, "availableReplicas": 1}, Progressing, "1 of 2 pods are available"),
        ({"replicas": 2, "paused": True}, {**SEEN, "replicas": 2}, Suspended, "paused"),
        ({"replicas": 2, "paused": True}, READY, Healthy, ""),
        ({}, condition("Progressing", "False", reason="ProgressDeadlineExceeded"), Degraded, "deadline passed"),
        ({}, condition("ReplicaFailure", "True", message="quota"), Degraded, "quota"),
    ],
)
def test_deployment(spec: dict[str, Any], status: dict[str, Any], expected: HealthStatus, said: str) -> None:
    """As `kubectl rollout status` decides, and with the reason."""
    verdict = judge("apps", "Deployment", spec, status)
    assert verdict.status is expected
    assert said in verdict.cause
    assert verdict.satisfies == (expected in {Healthy, Suspended})


@pytest.mark.parametrize(
    ("kind", "spec", "status", "expected"),
    [
        ("ReplicaSet", {"replicas": 1}, {**SEEN, "availableReplicas": 1}, Healthy),
        ("ReplicaSet", {"replicas": 1}, SEEN, Progressing),
        ("ReplicaSet", {"replicas": 1}, condition("ReplicaFailure", "True"), Degraded),
        ("ReplicaSet", {}, {}, Progressing),
        ("StatefulSet", {"replicas": 1}, {**SEEN, "availableReplicas": 1}, Healthy),
        ("StatefulSet", {"replicas": 2}, {**SEEN, "availableReplicas": 1}, Progressing),
        ("StatefulSet", {}, {"availableReplicas": 1}, Progressing),
        (
            "StatefulSet",
            {"replicas": 2},
            {**SEEN, "availableReplicas": 2, "updateRevision": "b", "currentRevision": "a", "updatedReplicas": 1},
            Progressing,
        ),
        (
            "StatefulSet",
            {"replicas": 2, "updateStrategy": {"rollingUpdate": {"partition": 1}}},
            {**SEEN, "availableReplicas": 2, "updateRevision": "b", "currentRevision": "a", "updatedReplicas": 1},
            Healthy,
        ),
        (
            "StatefulSet",
            {"updateStrategy": {"type": "OnDelete"}},
            {**SEEN, "availableReplicas": 1, "updateRevision": "b", "currentRevision": "a"},
            Healthy,
        ),
        ("DaemonSet", {}, {**SEEN, "desiredNumberScheduled": 0}, Healthy),
        (
            "DaemonSet",
            {},
            {**SEEN, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 1},
            Progressing,
        ),
        (
            "DaemonSet",
            {},
            {**SEEN, "desiredNumberScheduled": 2, "updatedNumberScheduled": 1, "numberAvailable": 2},
            Progressing,
        ),
        (
            "DaemonSet",
            {"updateStrategy": {"type": "OnDelete"}},
            {**SEEN, "desiredNumberScheduled": 2, "updatedNumberScheduled": 1, "numberAvailable": 2},
            Healthy,
        ),
        ("DaemonSet", {}, NOT_SEEN, Progressing),
    ],
)
def test_other_workloads(kind: str, spec: dict[str, Any], status: dict[str, Any], expected: HealthStatus) -> None:
    """Each as its controller counts."""
    assert judge("apps", kind, spec, status).status is expected


@pytest.mark.parametrize(
    ("group", "kind", "spec", "status", "expected", "final"),
    [
        ("batch", "Job", {}, condition("Complete", "True"), Healthy, False),
        ("batch", "Job", {}, condition("Failed", "True", message="back-off"), Degraded, True),
        ("batch", "Job", {"suspend": True}, {}, Suspended, False),
        ("batch", "Job", {}, {"failed": 1}, Progressing, False),
        ("batch", "CronJob", {"suspend": True}, {}, Suspended, False),
        ("batch", "CronJob", {}, {}, Healthy, False),
        ("", "Pod", {}, {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, Healthy, False),
        ("", "Pod", {}, {"phase": "Running"}, Progressing, False),
        ("", "Pod", {}, {"phase": "Succeeded"}, Healthy, False),
        ("", "Pod", {}, {"phase": "Failed", "reason": "Evicted"}, Degraded, True),
        ("", "PersistentVolumeClaim", {}, {"phase": "Bound"}, Healthy, False),
        ("", "PersistentVolumeClaim", {}, {"phase": "Lost"}, Degraded, True),
        ("", "PersistentVolumeClaim", {}, {}, Progressing, False),
        ("", "Service", {"type": "ClusterIP"}, {"loadBalancer": {}}, Healthy, False),
        ("", "Service", {"type": "LoadBalancer"}, {"loadBalancer": {}}, Progressing, False),
        ("", "Service", {"type": "LoadBalancer"}, {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}, Healthy, False),
        ("", "Namespace", {}, {"phase": "Active"}, Healthy, False),
        ("", "Namespace", {}, {"phase": "Terminating"}, Progressing, False),
        ("apiextensions.k8s.io", "CustomResourceDefinition", {}, condition("Established", "True"), Healthy, False),
        ("apiextensions.k8s.io", "CustomResourceDefinition", {}, condition("NamesAccepted", "False"), Degraded, True),
        ("apiextensions.k8s.io", "CustomResourceDefinition", {}, {}, Progressing, False),
        ("apiregistration.k8s.io", "APIService", {}, condition("Available", "True"), Healthy, False),
        ("apiregistration.k8s.io", "APIService", {}, condition("Available", "False"), Progressing, False),
    ],
)
def test_other_kinds(
    group: str, kind: str, spec: dict[str, Any], status: dict[str, Any], expected: HealthStatus, *, final: bool
) -> None:
    """What cannot change by waiting is final."""
    verdict = judge(group, kind, spec, status)
    assert (verdict.status, verdict.final) == (expected, final)


@pytest.mark.parametrize(
    ("status", "expected", "said"),
    [
        ({}, Healthy, ""),
        (condition("Ready", "True"), Healthy, ""),
        (condition("Ready", "False", message="no quorum"), Progressing, "Ready is False: no quorum"),
        (condition("Ready", "Unknown"), Progressing, "no reason given"),
        (condition("Stalled", "True", message="bad chart"), Degraded, "Stalled: bad chart"),
        (condition("Reconciling", "True", reason="Upgrading"), Progressing, "Upgrading"),
        (condition("Reconciling", "False"), Healthy, ""),
        (condition("Whatever", "False"), Healthy, ""),
        ({**condition("Ready", "True"), "observedGeneration": 1}, Progressing, "has not seen"),
        (condition("Ready", "False", observedGeneration=1), Healthy, ""),
    ],
)
def test_custom_resource(status: dict[str, Any], expected: HealthStatus, said: str) -> None:
    """Conditions with a known meaning count, as of the present generation; without any, existing is enough."""
    verdict = judge("example.com", "Boat", {}, status)
    assert verdict.status is expected
    assert said in verdict.cause


def test_object_that_is_being_deleted_waits_for_its_finalizers() -> None:
    """Whatever its status says."""
    metadata = {"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/hold"]}
    verdict = verdict_of("", "Service", projected({"metadata": metadata, "spec": {}}))
    assert verdict.status is Progressing
    assert "example.com/hold" in verdict.cause
