"""What health is about: which kinds are watched, and where the evidence for a cause is found. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairlead_agent.health.rules import RULES, WORKLOADS
from fairlead_agent.kube.resources import EVENTS, PODS, REPLICA_SETS, Resource
from fairlead_shared.objects import ObjectRef

EVIDENCE = (PODS, REPLICA_SETS, EVENTS)
"""Watched beside workloads, to find why one is not healthy."""

Source = tuple[Resource, str, str]
"""(resource, namespace, name); without a name, all of the namespace."""

_BUILT_IN_GROUPS = frozenset({"", "apps", "autoscaling", "batch", "extensions", "policy"})


@dataclass(frozen=True, slots=True)
class Target:
    """One object whose health is asked for."""

    ref: ObjectRef
    resource: Resource
    uid: str = field(default="", compare=False)
    """Of the object that was written, if known: what its events are found by once it is gone."""
    version: str = field(default="", compare=False)
    """Its resourceVersion when it was written or compared, if known: what was there before is not to be judged."""
    is_run: bool = field(default=False, compare=False)
    """Whether it is waited for until it ended, a pod as well; being under way, or suspended, is not enough."""

    def __hash__(self) -> int:
        """By what tells most of them apart: each look at thousands takes several."""
        return hash((self.ref.name, self.ref.namespace, self.resource.kind))

    @property
    def source(self) -> Source:
        """Where it is seen: in a list of its namespace; by itself if cluster-scoped, as rights there name objects."""
        return (self.resource, self.ref.namespace, "" if self.resource.namespaced else self.ref.name)


def is_workload(resource: Resource) -> bool:
    """Tell whether a kind makes pods, or is one."""
    return (resource.group, resource.kind) in WORKLOADS


def is_watched(resource: Resource) -> bool:
    """Tell whether a kind can be anything but healthy once it exists: it has a rule, or it is a custom resource."""
    if (resource.group, resource.kind) in RULES:
        return True
    return resource.group not in _BUILT_IN_GROUPS and not resource.group.endswith(".k8s.io")
