"""What single objects take of a quota, and hold already."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fairlead_agent.apply.demand import less, pod_spec, pods_held, pods_wanted, roll_out, usage_of_object
from fairlead_agent.kube.resources import Resource

KINDS = {
    "Pod": Resource("", "v1", "Pod", "pods", namespaced=True),
    "Service": Resource("", "v1", "Service", "services", namespaced=True),
    "ConfigMap": Resource("", "v1", "ConfigMap", "configmaps", namespaced=True),
    "PersistentVolumeClaim": Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", namespaced=True),
    "Deployment": Resource("apps", "v1", "Deployment", "deployments", namespaced=True),
    "StatefulSet": Resource("apps", "v1", "StatefulSet", "statefulsets", namespaced=True),
    "DaemonSet": Resource("apps", "v1", "DaemonSet", "daemonsets", namespaced=True),
    "Job": Resource("batch", "v1", "Job", "jobs", namespaced=True),
    "CronJob": Resource("batch", "v1", "CronJob", "cronjobs", namespaced=True),
}


@pytest.mark.parametrize(
    ("kind", "spec", "live", "count"),
    [
        ("Deployment", {}, None, 1),
        ("Deployment", {"replicas": 0}, None, 0),
        ("StatefulSet", {"replicas": 3}, None, 3),
        ("Job", {}, None, 1),
        ("Job", {"parallelism": 5}, None, 5),
        ("Job", {"parallelism": 5, "completions": 2}, None, 2),
        ("Job", {"parallelism": 5, "suspend": True}, None, 0),
        ("Deployment", {"replicas": None}, None, 1),
        ("Job", {"parallelism": None, "completions": None}, None, 1),
        ("Pod", {}, None, 1),
        ("DaemonSet", {}, None, None),
        ("DaemonSet", {}, {"status": {"desiredNumberScheduled": 4}}, 4),
    ],
)
def test_pods_wanted(kind: str, spec: dict[str, Any], live: dict[str, Any] | None, count: int | None) -> None:
    """As many as run at once; those of a DaemonSet only its nodes tell."""
    assert pods_wanted(KINDS[kind], {"spec": spec}, live) == count


@pytest.mark.parametrize(
    ("kind", "status", "count"),
    [
        ("Deployment", {"replicas": 4, "readyReplicas": 1}, 4),
        ("StatefulSet", {}, 0),
        ("Job", {"active": 2, "succeeded": 5}, 2),
        ("DaemonSet", {"currentNumberScheduled": 3}, 3),
        ("Pod", {"phase": "Running"}, 1),
        ("Pod", {"phase": "Succeeded"}, 0),
    ],
)
def test_pods_held(kind: str, status: dict[str, Any], count: int) -> None:
    """What is there counts, not what is ready, nor what is done."""
    assert pods_held(KINDS[kind], {"status": status}) == count


@pytest.mark.parametrize(
    ("kind", "strategy", "wanted", "surge", "may_shrink"),
    [
        ("Deployment", {}, 4, 1, True),
        ("Deployment", {}, 3, 1, False),
        ("Deployment", {}, 10, 3, True),
        ("Deployment", {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}}, 3, 2, False),
        ("Deployment", {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}, 3, 0, True),
        ("Deployment", {"rollingUpdate": {"maxSurge": "50%", "maxUnavailable": "34%"}}, 3, 2, True),
        ("Deployment", {"type": "Recreate"}, 3, 0, True),
        ("DaemonSet", {}, 3, 0, True),
        ("DaemonSet", {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}, 3, 1, False),
        ("StatefulSet", {}, 3, 0, True),
    ],
)
def test_roll_out(kind: str, strategy: dict[str, Any], wanted: int, surge: int, *, may_shrink: bool) -> None:
    """Surge is rounded up, what may be missing down, and both cannot be nothing."""
    field = "strategy" if kind == "Deployment" else "updateStrategy"
    assert roll_out(KINDS[kind], {"spec": {field: strategy}}, wanted) == (surge, may_shrink)


GI = Decimal(1024**3)
CLAIM = {"resources": {"requests": {"storage": "2Gi"}}}


@pytest.mark.parametrize(
    ("kind", "spec", "usage"),
    [
        ("ConfigMap", None, {"count/configmaps": 1, "configmaps": 1}),
        ("Deployment", {}, {"count/deployments.apps": 1}),
        ("Pod", {}, {}),
        ("Service", {"ports": [{}, {}]}, {"count/services": 1, "services": 1}),
        (
            "Service",
            {"type": "NodePort", "ports": [{}, {}]},
            {"count/services": 1, "services": 1, "services.nodeports": 2},
        ),
        (
            "Service",
            {"type": "LoadBalancer", "ports": [{}]},
            {"count/services": 1, "services": 1, "services.loadbalancers": 1, "services.nodeports": 1},
        ),
        (
            "Service",
            {"type": "LoadBalancer", "ports": [{}], "allocateLoadBalancerNodePorts": False},
            {"count/services": 1, "services": 1, "services.loadbalancers": 1},
        ),
        (
            "PersistentVolumeClaim",
            CLAIM | {"storageClassName": "fast"},
            {
                "count/persistentvolumeclaims": 1,
                "persistentvolumeclaims": 1,
                "requests.storage": 2 * GI,
                "fast.storageclass.storage.k8s.io/requests.storage": 2 * GI,
                "fast.storageclass.storage.k8s.io/persistentvolumeclaims": 1,
            },
        ),
        (
            "StatefulSet",
            {"replicas": 3, "volumeClaimTemplates": [{"spec": CLAIM}]},
            {
                "count/statefulsets.apps": 1,
                "count/persistentvolumeclaims": 3,
                "persistentvolumeclaims": 3,
                "requests.storage": 6 * GI,
            },
        ),
    ],
)
def test_objects_ports_and_storage(kind: str, spec: dict[str, Any] | None, usage: dict[str, Decimal]) -> None:
    """Under each name that a quota may have; a pod is counted with its pods' usage."""
    assert usage_of_object(KINDS[kind], {"spec": spec}) == usage


def test_only_what_makes_pods_now_has_a_template() -> None:
    """A CronJob's come at their hour, one Job after the other."""
    spec: dict[str, Any] = {"containers": []}
    assert pod_spec(KINDS["Deployment"], {"spec": {"template": {"spec": spec}}}) == spec
    assert pod_spec(KINDS["Pod"], {"spec": spec}) == spec
    assert pod_spec(KINDS["ConfigMap"], {"data": {}}) is None
    assert pod_spec(KINDS["CronJob"], {"spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}}) is None


def test_what_is_held_is_taken_off() -> None:
    """Also where that leaves less than nothing."""
    assert less({"a": Decimal(3)}, {"a": Decimal(1), "b": Decimal(2)}) == {"a": 2, "b": -2}
