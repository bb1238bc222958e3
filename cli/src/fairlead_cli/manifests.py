"""
Manifests: what the developer's files say, checked and made ready for a bundle.

Every object keeps the file and line it came from, through to the reason shown when it fails. Only the shape that all
kinds share is checked here; what a kind's fields mean is the API server's to judge, in the agent's preflight. This
module sends nothing and seals nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fairlead_cli.errors import ManifestInvalid
from fairlead_cli.manifest_files import Text
from fairlead_cli.yaml_documents import Block, read_documents
from fairlead_shared.bundle import LAST_APPLIED
from fairlead_shared.objects import ObjectRef

SERVER_FIELDS = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
)
"""Fields of metadata that the API server writes; `kubectl get -o yaml` prints them and nobody means them."""

CLUSTER_SCOPED = frozenset(
    {
        ("", "Namespace"),
        ("", "Node"),
        ("", "PersistentVolume"),
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("apiregistration.k8s.io", "APIService"),
        ("certificates.k8s.io", "CertificateSigningRequest"),
        ("certificates.k8s.io", "ClusterTrustBundle"),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
        ("networking.k8s.io", "IPAddress"),
        ("networking.k8s.io", "IngressClass"),
        ("networking.k8s.io", "ServiceCIDR"),
        ("node.k8s.io", "RuntimeClass"),
        ("rbac.authorization.k8s.io", "ClusterRole"),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        ("resource.k8s.io", "DeviceClass"),
        ("resource.k8s.io", "ResourceSlice"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("storage.k8s.io", "CSIDriver"),
        ("storage.k8s.io", "CSINode"),
        ("storage.k8s.io", "StorageClass"),
        ("storage.k8s.io", "VolumeAttachment"),
        ("storage.k8s.io", "VolumeAttributesClass"),
        ("storagemigration.k8s.io", "StorageVersionMigration"),
        # Widely installed CRDs, whose definition an application's files rarely bring along.
        ("cert-manager.io", "ClusterIssuer"),
        ("external-secrets.io", "ClusterExternalSecret"),
        ("external-secrets.io", "ClusterSecretStore"),
        ("gateway.networking.k8s.io", "GatewayClass"),
        ("kyverno.io", "ClusterPolicy"),
    }
)
"""(group, kind) of what belongs to no namespace; the command cannot ask the cluster, which nothing may dial."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object was written down."""

    file: str
    line: int
    """From 1; 0 when only the file is known."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Located:
    """One object, ready for a bundle but for the sealing of its values."""

    manifest: dict[str, Any]
    ref: ObjectRef
    origin: Origin


def read_manifests(texts: Iterable[Text], namespace: str) -> list[Located]:
    """
    Read, check and complete the objects of some files.

    Args:
        texts: What was read.
        namespace: The environment's, for objects that name none.
    Returns: The objects in the order they were written; never empty.
    Raises: ManifestInvalid: the first thing wrong, with its file and line.
    """
    found = [pair for text in texts for pair in _objects_of(text)]
    if not found:
        raise ManifestInvalid("no object was found; deploying nothing would delete everything", file="input")
    scopes = _scopes_defined(manifest for manifest, _ in found)
    located = [_complete(manifest, origin, namespace, scopes) for manifest, origin in found]
    _refuse_duplicates(located)
    return located


def _objects_of(text: Text) -> Iterator[tuple[Block, Origin]]:
    try:
        documents = read_documents(text.text, text.name)
    except ManifestInvalid as error:
        if not text.is_rendered:
            raise
        raise ManifestInvalid(f"what it renders is wrong: {error.reason}", file=error.file) from None
    for document, line in documents:
        yield from _flatten(document, Origin(text.name, 0 if text.is_rendered else line))


def _flatten(value: object, origin: Origin) -> Iterator[tuple[Block, Origin]]:
    """Yield an object, or the objects of a List (also `DeploymentList` and the like, as kubectl prints them)."""
    if not isinstance(value, Block):
        raise _refusal(origin, "a Kubernetes object must be a mapping")
    if origin.line:  # what a program rendered has lines that nobody wrote
        origin = Origin(origin.file, value.line or origin.line)
    kind, items = value.get("kind"), value.get("items")
    if not (isinstance(kind, str) and kind.endswith("List") and ("items" in value or kind == "List")):
        yield value, origin
        return
    if not isinstance(items, list):
        raise _refusal(origin, "must be a list of objects", "items")
    for item in items:
        yield from _flatten(item, origin)


def _refusal(origin: Origin, reason: str, field: str = "") -> ManifestInvalid:
    return ManifestInvalid(reason, file=origin.file, line=origin.line, field=field)


def _scopes_defined(manifests: Iterable[Block]) -> dict[tuple[str, str], bool]:
    """Map (group, kind) of each CustomResourceDefinition in the input to whether it is cluster-scoped."""
    scopes = {}
    for manifest in manifests:
        spec = manifest.get("spec")
        if manifest.get("kind") == "CustomResourceDefinition" and isinstance(spec, dict):
            names = spec.get("names")
            kind = names.get("kind") if isinstance(names, dict) else None
            scopes[str(spec.get("group")), str(kind)] = spec.get("scope") == "Cluster"
    return scopes


def _complete(manifest: Block, origin: Origin, namespace: str, scopes: Mapping[tuple[str, str], bool]) -> Located:
    """Check an object, drop what the API server writes, fill the namespace in."""
    _check(manifest, origin)
    kind: str = manifest["kind"]
    group: str = manifest["apiVersion"].rpartition("/")[0]
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in SERVER_FIELDS}
    metadata.pop("generateName", None)  # its name is given too, and wins
    wanted = metadata.pop("namespace", None) or namespace
    if not scopes.get((group, kind), (group, kind) in CLUSTER_SCOPED):
        metadata["namespace"] = wanted
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict) and LAST_APPLIED in annotations:
        metadata["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    rest = {key: value for key, value in manifest.items() if key not in {"status", "metadata"}}
    complete = rest | {"metadata": metadata}
    try:
        ref = ObjectRef.of(complete)
    except ValueError:
        raise _refusal(origin, "apiVersion, kind, name or namespace is longer than Kubernetes allows") from None
    return Located(complete, ref, origin)


def _check(manifest: Block, origin: Origin) -> None:
    """Refuse an object without what all kinds share."""
    for field in ("apiVersion", "kind"):
        if not isinstance(manifest.get(field), str) or not manifest[field]:
            raise _refusal(origin, "is missing or not a string; every object needs it", field)
    if manifest["apiVersion"].startswith("kustomize.config.k8s.io/"):
        remedy = "name its folder in place of the file"
        raise _refusal(origin, f"this is an instruction for kustomize, not an object; {remedy}")
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict):
        raise _refusal(origin, f"is missing or not a mapping; a {manifest['kind']} needs a name", "metadata")
    if metadata.get("generateName") and not metadata.get("name"):
        reason = "a generated name would be another one at each deployment; give the object a name"
        raise _refusal(origin, reason, "metadata.generateName")
    if not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise _refusal(origin, f"is missing or not a string; a {manifest['kind']} needs it", "metadata.name")
    if not isinstance(metadata.get("namespace", ""), str | None):
        raise _refusal(origin, "is not a string", "metadata.namespace")


def _refuse_duplicates(located: Iterable[Located]) -> None:
    first: dict[tuple[str, str, str, str], Located] = {}
    for one in located:
        earlier = first.setdefault(one.ref.identity, one)
        if earlier is not one:
            raise _refusal(one.origin, f"{one.ref} is also at {earlier.origin}; keep one of the two")
