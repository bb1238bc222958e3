"""
What an object names: the ConfigMaps, Secrets, ServiceAccounts, claims and roles it needs at its start. Pure: no I/O.

Reads manifests nobody has checked yet, so whatever has the wrong shape names nothing: the dry-run will say what is
wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fairlead_shared.objects import Manifest, ObjectRef

Identity = tuple[str, str, str, str]
"""(group, kind, namespace, name), as ObjectRef.identity."""

POD_TEMPLATES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): ("spec",),
    ("", "ReplicationController"): ("spec", "template", "spec"),
    ("apps", "Deployment"): ("spec", "template", "spec"),
    ("apps", "ReplicaSet"): ("spec", "template", "spec"),
    ("apps", "StatefulSet"): ("spec", "template", "spec"),
    ("apps", "DaemonSet"): ("spec", "template", "spec"),
    ("batch", "Job"): ("spec", "template", "spec"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template", "spec"),
}
"""(group, kind) → where its pods' spec is."""
_VOLUMES: Mapping[str, tuple[str, str]] = {
    "configMap": ("ConfigMap", "name"),
    "secret": ("Secret", "secretName"),
    "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
}
DEPENDS_ON = "fairlead.dev/depends-on"
"""Annotation: `GROUP/namespaces/NAMESPACE/KIND/NAME` or `GROUP/KIND/NAME`, comma-separated; the core group is empty."""
_RBAC = "rbac.authorization.k8s.io"


def named_by(manifest: Manifest) -> Iterator[Identity]:
    """Yield what an object needs to be there before it; the same thing may come twice."""
    ref = ObjectRef.of(manifest)
    where = POD_TEMPLATES.get((ref.group, ref.kind))
    if where is not None:
        yield from _named_by_pod(_at(manifest, where), ref.namespace)
    elif ref.group == _RBAC and ref.kind in {"RoleBinding", "ClusterRoleBinding"}:
        yield from _named_by_binding(manifest, ref.namespace)


def bound_service_accounts(manifest: Manifest) -> Iterator[Identity]:
    """Yield the ServiceAccounts a role binding gives rights to: their pods want the binding first."""
    ref = ObjectRef.of(manifest)
    if ref.group != _RBAC or ref.kind not in {"RoleBinding", "ClusterRoleBinding"}:
        return
    for subject in _mappings(manifest.get("subjects")):
        if subject.get("kind") == "ServiceAccount":
            namespace = subject.get("namespace") or ref.namespace
            yield ("", "ServiceAccount", str(namespace), str(subject.get("name", "")))


def dependencies(manifest: Manifest) -> Iterator[Identity | str]:
    """
    Yield what has to be ready before an object, as its annotation says; a text that names no object as it is.

    Source: the syntax of `config.kubernetes.io/depends-on`,
        https://kpt.dev/reference/annotations/depends-on/
    """
    annotations = manifest["metadata"].get("annotations")
    text = annotations.get(DEPENDS_ON) if isinstance(annotations, Mapping) else None
    for part in str(text).split(",") if text else ():
        match part.strip().split("/"):
            case [group, "namespaces", str(namespace), str(kind), str(name)] if namespace and kind and name:
                yield (group, kind, namespace, name)
            case [group, str(kind), str(name)] if kind and name:
                yield (group, kind, "", name)
            case _:
                yield part.strip()


def _named_by_binding(binding: Manifest, namespace: str) -> Iterator[Identity]:
    role = binding.get("roleRef")
    if isinstance(role, Mapping):
        kind = str(role.get("kind", ""))
        yield (_RBAC, kind, namespace if kind == "Role" else "", str(role.get("name", "")))
    yield from bound_service_accounts(binding)


def _named_by_pod(spec: Mapping[str, Any], namespace: str) -> Iterator[Identity]:
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        yield ("", "ServiceAccount", namespace, str(account))
    for secret in _mappings(spec.get("imagePullSecrets")):
        yield ("", "Secret", namespace, str(secret.get("name", "")))
    if spec.get("priorityClassName"):
        yield ("scheduling.k8s.io", "PriorityClass", "", str(spec["priorityClassName"]))
    for volume in _mappings(spec.get("volumes")):
        yield from _named_by_volume(volume, namespace)
        projected = volume.get("projected")
        for source in _mappings(projected.get("sources") if isinstance(projected, Mapping) else None):
            for field in ("configMap", "secret"):
                if isinstance(source.get(field), Mapping):
                    yield ("", _VOLUMES[field][0], namespace, str(source[field].get("name", "")))
    for field in ("initContainers", "containers"):
        for container in _mappings(spec.get(field)):
            yield from _named_by_container(container, namespace)


def _named_by_volume(volume: Mapping[str, Any], namespace: str) -> Iterator[Identity]:
    for field, (kind, name_field) in _VOLUMES.items():
        source = volume.get(field)
        if isinstance(source, Mapping) and source.get(name_field):
            yield ("", kind, namespace, str(source[name_field]))


def _named_by_container(container: Mapping[str, Any], namespace: str) -> Iterator[Identity]:
    for source in _mappings(container.get("envFrom")):
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if isinstance(source.get(field), Mapping):
                yield ("", kind, namespace, str(source[field].get("name", "")))
    for variable in _mappings(container.get("env")):
        value = variable.get("valueFrom")
        for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
            if isinstance(value, Mapping) and isinstance(value.get(field), Mapping):
                yield ("", kind, namespace, str(value[field].get("name", "")))


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, Mapping))


def _at(manifest: Manifest, path: tuple[str, ...]) -> Mapping[str, Any]:
    value: object = manifest
    for field in path:
        value = value.get(field) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
