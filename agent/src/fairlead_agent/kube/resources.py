"""
Resources of the API: where a kind is served, and under which path. Pure: no I/O.

Known from discovery, or, before discovery knows, from the CRD in the bundle that makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairlead_shared.objects import Manifest, ObjectRef


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind as the API serves it."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """`GROUP/VERSION`, or `VERSION` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "") -> str:
        """
        Return the path of one object, or of the collection without a name (of all namespaces without a namespace).

        Names are checked by the API server's own rules elsewhere; what could leave the path is refused here.
        Raises: ValueError: a name that is no single path segment.
        """
        for part in (namespace, name):
            if not is_segment(part):
                raise ValueError(f"{part!r} is no name of an object")
        prefix = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if self.namespaced and namespace:
            prefix += f"/namespaces/{namespace}"
        return f"{prefix}/{self.plural}/{name}" if name else f"{prefix}/{self.plural}"

    def ref(self, manifest: Manifest) -> ObjectRef:
        """Return the reference of a live object of this kind; lists leave apiVersion and kind out."""
        metadata = manifest["metadata"]
        return ObjectRef(
            api_version=self.api_version,
            kind=self.kind,
            namespace=metadata.get("namespace", ""),
            name=metadata["name"],
        )


def is_segment(name: str) -> bool:
    """Whether a name can stand in a path: what the API server takes for any object's name, and no more."""
    return name not in {".", ".."} and _SEGMENT.issuperset(name)


_SEGMENT = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:@+")
"""Characters that need no escaping in a path; names of RBAC objects may hold colons."""

NAMESPACES = Resource("", "v1", "Namespace", "namespaces", namespaced=False)
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)
SECRETS = Resource("", "v1", "Secret", "secrets", namespaced=True)
PODS = Resource("", "v1", "Pod", "pods", namespaced=True)
RESOURCE_QUOTAS = Resource("", "v1", "ResourceQuota", "resourcequotas", namespaced=True)
EVENTS = Resource("", "v1", "Event", "events", namespaced=True)
REPLICA_SETS = Resource("apps", "v1", "ReplicaSet", "replicasets", namespaced=True)
ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
)
RULES_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", namespaced=False
)
LEASES = Resource("coordination.k8s.io", "v1", "Lease", "leases", namespaced=True)
CRDS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that RBAC allows or not, in its own words."""

    namespace: str
    """Empty for the whole cluster."""
    group: str
    resource: str
    """With its subresource after a slash, if any."""
    name: str
    """Empty for every object."""
    verb: str


def verbs_for(rules: Sequence[Mapping[str, Any]], resource: Resource) -> set[str]:
    """Return what rules of RBAC allow with every object of a kind, `*` included where a rule says that."""
    return {verb for rule in rules if _covers(rule, resource) for verb in rule.get("verbs") or []}


def _covers(rule: Mapping[str, Any], resource: Resource) -> bool:
    def names(field_name: str, wanted: str) -> bool:
        return bool({wanted, "*"} & set(rule.get(field_name) or []))

    return not rule.get("resourceNames") and names("apiGroups", resource.group) and names("resources", resource.plural)


def resources_of_crd(crd: Mapping[str, Any]) -> Iterator[Resource]:
    """Yield the resources a CustomResourceDefinition serves; nothing for a malformed one, which its dry-run refuses."""
    spec = crd.get("spec")
    names = spec.get("names") if isinstance(spec, Mapping) else None
    versions = spec.get("versions") if isinstance(spec, Mapping) else None
    if not isinstance(spec, Mapping) or not isinstance(names, Mapping) or not isinstance(versions, list):
        return
    for version in versions:
        if isinstance(version, Mapping) and version.get("served"):
            yield Resource(
                group=str(spec.get("group", "")),
                version=str(version.get("name", "")),
                kind=str(names.get("kind", "")),
                plural=str(names.get("plural", "")),
                namespaced=spec.get("scope") == "Namespaced",
            )
