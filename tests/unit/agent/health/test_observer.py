"""What is watched of some objects, and what is said of them while that is still being read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from fairlead_agent.health.observer import Observer
from fairlead_agent.health.targets import Target
from fairlead_agent.health.verdict import Verdict
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_agent.kube.watch import Key, Watch
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import HealthStatus

DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)
WEB = Target(ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web"), DEPLOYMENTS)


class _Watches:
    """Watches of which this test says what they show."""

    def __init__(self) -> None:
        self.opened: dict[str, Watch[Any]] = {}
        self.selectors: dict[str, str] = {}
        self.known: dict[str, list[dict[str, Any]]] = {}
        """What watches show from the moment on in which they are opened."""
        self._projects: dict[str, Callable[[Mapping[str, Any]], Any]] = {}

    def open(
        self,
        resource: Resource,
        namespace: str,
        project: Callable[[Mapping[str, Any]], Any],
        changed: Callable[[Key], None],
        *,
        name: str = "",
        label_selector: str = "",
        names_only: bool = False,
    ) -> Watch[Any]:
        """Note what is asked for."""
        watch = Watch(cast("KubeClient", None), resource, namespace, project, changed, name=name, names_only=names_only)
        self.opened[resource.plural], self.selectors[resource.plural] = watch, label_selector
        self._projects[resource.plural] = project
        if resource.plural in self.known:
            self.show(resource.plural, *self.known[resource.plural])
        return watch

    def show(self, plural: str, *manifests: dict[str, Any]) -> None:
        """Have one show these, and no others."""
        project = self._projects[plural]
        self.opened[plural].objects = {("shop", one["metadata"]["name"]): project(one) for one in manifests}
        self.opened[plural].synced.set()


def _deployment(available: int, observed: int = 2) -> dict[str, Any]:
    status = {"observedGeneration": observed, "updatedReplicas": 1, "replicas": 1, "availableReplicas": available}
    metadata = {"name": "web", "namespace": "shop", "uid": "d", "generation": 2}
    return {"metadata": metadata, "spec": {"replicas": 1}, "status": status}


def _verdict(observer: Observer) -> Verdict:
    return observer.verdicts(time.time())[WEB]


def test_evidence_is_watched_from_the_first_object_on_that_is_not_well() -> None:
    """Not while its controller has not looked yet: what happened before is not about this change."""
    watches = _Watches()
    observer = Observer(watches.open, [WEB], "owner=us")
    watches.show("deployments", _deployment(available=0, observed=1))
    assert _verdict(observer).cause == "the controller has not seen the change yet"
    watches.show("deployments", _deployment(available=1))
    assert _verdict(observer).satisfies
    assert list(watches.opened) == ["deployments"]
    watches.show("deployments", _deployment(available=0))
    assert _verdict(observer).cause == "0 of 1 pods are available"
    assert watches.selectors == {"deployments": "owner=us", "pods": "", "replicasets": "", "events": ""}


def test_nothing_is_final_before_the_evidence_was_read() -> None:
    """A Job's failure ends the deployment, and is to be told with what its pods say."""
    jobs = Resource("batch", "v1", "Job", "jobs", namespaced=True)
    migrate = Target(ObjectRef(api_version="batch/v1", kind="Job", namespace="shop", name="migrate"), jobs)
    watches = _Watches()
    observer = Observer(watches.open, [migrate])
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    metadata = {"name": "migrate", "namespace": "shop", "uid": "j"}
    watches.show("jobs", {"metadata": metadata, "spec": {}, "status": {"conditions": [failed]}})
    expected = Verdict(HealthStatus.PROGRESSING, "it failed: BackoffLimitExceeded")
    assert observer.verdicts(time.time())[migrate] == expected
    owner = {"uid": "j", "controller": True}
    ended = {"name": "main", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}
    pod = {
        "metadata": {"name": "migrate-1", "namespace": "shop", "uid": "p", "ownerReferences": [owner]},
        "status": {"phase": "Failed", "containerStatuses": [ended]},
    }
    watches.show("pods", pod)
    watches.show("replicasets")
    assert observer.verdicts(time.time())[migrate] == expected
    watches.show("events")
    said = observer.verdicts(time.time())[migrate]
    assert (said.status, said.final) == (HealthStatus.DEGRADED, True)
    assert "exit code 3" in said.cause
    # When its evidence is listed anew, what is known of it stands.
    watches.opened["events"].synced.clear()
    assert observer.verdicts(time.time())[migrate] == said


def test_what_others_have_read_already_counts_from_the_first_look_on() -> None:
    """Its watch will not tell it again, and a cause that stands would be found only at the end of a grace."""
    watches = _Watches()
    observer = Observer(watches.open, [WEB])
    watches.show("deployments", _deployment(available=0))
    metadata = {"namespace": "shop", "uid": "s", "ownerReferences": [{"uid": "d", "controller": True}]}
    refused = {
        "metadata": {"name": "web.1", "namespace": "shop"},
        "involvedObject": {"uid": "s"},
        "reason": "FailedCreate",
        "message": "exceeded quota",
        "lastTimestamp": "2026-11-01T00:00:00Z",
    }
    watches.known = {"pods": [], "replicasets": [{"metadata": {"name": "web-1", **metadata}}], "events": [refused]}
    assert _verdict(observer).cause == "its pods cannot be created: exceeded quota (FailedCreate)"
