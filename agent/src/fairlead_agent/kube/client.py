"""
The Kubernetes client: verbs on objects, over one transport. It knows kinds and paths; it decides nothing.

The only way for the rest of the agent to reach the API server, so that field manager, validation, preconditions and the
translation of errors are the same everywhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from fairlead_agent.errors import NotFound
from fairlead_agent.kube.access import ClusterAccess
from fairlead_agent.kube.discovery import Discovery
from fairlead_agent.kube.gate import WriteGate
from fairlead_agent.kube.resources import ACCESS_REVIEWS, PODS, RULES_REVIEWS, Resource, Right
from fairlead_agent.kube.transport import PATIENCE_SECONDS, Observe, SocketFactory, Transport

FIELD_MANAGER = "fairlead"
PAGE_OBJECTS = 200
"""Objects per page of a list: kubectl takes 500, whose 2 MiB of pods are 15 MiB once they are parsed."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a server-side apply answered."""

    manifest: dict[str, Any]
    """The whole object after it."""
    created: bool
    warnings: tuple[str, ...] = ()
    """What the API server has to say about the object, though it takes it."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    items: list[dict[str, Any]]
    resource_version: str
    token: str
    """Asks for the next page; empty on the last."""
    warnings: tuple[str, ...] = ()
    """What the API server warns of, such as that this version of the kind is deprecated."""


class KubeClient:
    """
    Verbs on the objects of one cluster. Use as an asynchronous context manager.

    Args:
        access: The API server and the identity there.
        socket_factory: Makes sockets; None: the usual ones.
        patience_seconds: How long one request is tried again.
        gate: What every write passes; None: this client writes whenever it is asked to.
        observe: Called after each try of a request.
    """

    def __init__(
        self,
        access: ClusterAccess,
        *,
        socket_factory: SocketFactory | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        gate: WriteGate | None = None,
        observe: Observe = lambda *_: None,
    ) -> None:
        self.transport = Transport(
            access, socket_factory=socket_factory, patience_seconds=patience_seconds, gate=gate, observe=observe
        )
        self._discovery = Discovery(self.transport)

    async def __aenter__(self) -> Self:
        await self.transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.transport.__aexit__(kind, error, trace)

    async def resolve(self, api_version: str, kind: str) -> Resource:
        """Return where a kind is served. Raises: UnknownKind: nowhere."""
        return await self._discovery.resolve(api_version, kind)

    async def version(self) -> str:
        """Return the server's version, such as `v1.37.2`."""
        answer = await self.transport.request("GET", "/version", what="version")
        return str(answer.content.get("gitVersion", ""))

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        """Return one object. Raises: NotFound: there is none."""
        path = resource.path(namespace, name)
        answer = await self.transport.request("GET", path, what=_named(resource, namespace, name))
        return answer.content

    async def find(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """Return one object, None if there is none."""
        try:
            return await self.get(resource, namespace, name)
        except NotFound:
            return None

    async def page(
        self,
        resource: Resource,
        namespace: str,
        *,
        token: str = "",
        limit: int = PAGE_OBJECTS,
        label_selector: str = "",
        field_selector: str = "",
        names_only: bool = False,
    ) -> Page:
        """
        Return one page of a list.

        Args:
            resource: What to list.
            namespace: Where; empty for cluster-scoped resources or all namespaces.
            token: `Page.token` of the page before.
            limit: Objects per page, > 0.
            label_selector: Only objects with these labels.
            field_selector: Only objects with these fields.
            names_only: Metadata is enough; the server leaves the rest out.
        Raises: WatchExpired: the token is too old. MissingRight: no `list`.
        """
        query = {"limit": str(limit)}
        if token:
            query["continue"] = token
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        accept = (
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1" if names_only else "application/json"
        )
        path = resource.path(namespace)
        answer = await self.transport.request("GET", path, what=resource.plural, query=query, accept=accept)
        metadata = answer.content.get("metadata", {})
        return Page(
            items=answer.content.get("items") or [],
            resource_version=str(metadata.get("resourceVersion", "")),
            token=str(metadata.get("continue") or ""),
            warnings=answer.warnings,
        )

    async def apply(
        self, resource: Resource, manifest: Mapping[str, Any], *, dry_run: bool = False, force: bool = False
    ) -> Applied:
        """
        Apply one object server-side, as field manager `fairlead`.

        Args:
            resource: Where its kind is served.
            manifest: The fields wanted; apiVersion, kind, metadata.name, and metadata.namespace if namespaced. With
                metadata.resourceVersion, only the object as it was read is changed.
            dry_run: Run everything but the write.
            force: Take over fields that other managers own, instead of a conflict.
        Returns: The object after it, and whether it was (would be) created.
        Raises: Conflict: it changed meanwhile. FieldConflict, InvalidObject, MissingRight, AdmissionDenied, NotFound
            (its namespace) and the like.
        Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/
        """
        metadata = manifest["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        if force:
            query["force"] = "true"
        answer = await self.transport.request(
            "PATCH",
            resource.path(namespace, name),
            what=_named(resource, namespace, name),
            query=query,
            body=manifest,
            content_type="application/apply-patch+yaml",
        )
        return Applied(answer.content, answer.status == HTTPStatus.CREATED, answer.warnings)

    async def create(self, resource: Resource, manifest: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create one object. Raises: AlreadyExists: it is there, perhaps by an earlier try of this very request."""
        metadata = manifest["metadata"]
        namespace = metadata.get("namespace", "")
        query = {"fieldManager": FIELD_MANAGER}
        if dry_run:
            query["dryRun"] = "All"
        answer = await self.transport.request(
            "POST",
            resource.path(namespace),
            what=_named(resource, namespace, metadata["name"]),
            query=query,
            body=manifest,
        )
        return answer.content

    async def manage(
        self, resource: Resource, live: Mapping[str, Any], managed_fields: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """
        Write who owns which fields of one object, at the version it was read at; its content stays as it is.

        Raises: Conflict: it changed meanwhile. NotFound: it is gone.
        Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership
        """
        metadata = live["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        answer = await self.transport.request(
            "PATCH",
            resource.path(namespace, name),
            what=_named(resource, namespace, name),
            query={"fieldManager": FIELD_MANAGER},
            body=[
                {"op": "replace", "path": "/metadata/managedFields", "value": list(managed_fields)},
                {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            ],
            content_type="application/json-patch+json",
        )
        return answer.content

    async def unlabel(
        self, resource: Resource, live: Mapping[str, Any], label: str, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """
        Take one label off an object, at the version it was read at.

        Raises: Conflict: it changed meanwhile. NotFound: it is gone.
        """
        metadata = live["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        query = {"fieldManager": FIELD_MANAGER}
        if dry_run:
            query["dryRun"] = "All"
        answer = await self.transport.request(
            "PATCH",
            resource.path(namespace, name),
            what=_named(resource, namespace, name),
            query=query,
            body={"metadata": {"labels": {label: None}, "resourceVersion": metadata["resourceVersion"]}},
            content_type="application/merge-patch+json",
        )
        return answer.content

    async def update(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Replace one object at its resourceVersion. Raises: Conflict: it changed meanwhile. NotFound: it is gone."""
        metadata = manifest["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        answer = await self.transport.request(
            "PUT",
            resource.path(namespace, name),
            what=_named(resource, namespace, name),
            query={"fieldManager": FIELD_MANAGER},
            body=manifest,
        )
        return answer.content

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        resource_version: str = "",
        dry_run: bool = False,
        foreground: bool = False,
    ) -> dict[str, Any]:
        """
        Delete one object, its dependants after it.

        Args:
            resource: Where its kind is served.
            namespace: Empty for cluster-scoped objects.
            name: Its name.
            uid: Only the object with this UID.
            resource_version: Only the object as it was read.
            dry_run: Run everything but the write.
            foreground: Its dependants go first, and it stays until they are gone.
        Returns: The object as it is after that if finalizers keep it, else a Status.
        Raises: NotFound: it is gone. Conflict: it is not the one meant, or changed.
        """
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        propagation = "Foreground" if foreground else "Background"
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if chosen := {field: value for field, value in preconditions.items() if value}:
            options["preconditions"] = chosen
        if dry_run:
            # Only the body counts: with a body, the API server ignores these options in the query and would delete.
            options["dryRun"] = ["All"]
        answer = await self.transport.request(
            "DELETE",
            resource.path(namespace, name),
            what=_named(resource, namespace, name),
            query={"dryRun": "All"} if dry_run else None,  # for the audit log, which has no bodies at level Metadata
            body=options,
        )
        return answer.content

    async def log(
        self, namespace: str, pod: str, container: str, *, lines: int, most_bytes: int, previous: bool = False
    ) -> str:
        """
        Return the end of a container's log.

        Args:
            namespace: Of the pod.
            pod: Its name.
            container: Its container's.
            lines: At most so many, the last ones.
            most_bytes: At most so much of these, from their beginning.
            previous: Of the run before the container was restarted.
        Raises: MissingRight, NotFound. InvalidObject: it has none, or not yet.
        """
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(most_bytes)}
        if previous:
            query["previous"] = "true"
        return await self.transport.text(PODS.path(namespace, pod) + "/log", what=f"log of {pod}", query=query)

    async def may(self, right: Right) -> bool:
        """
        Ask whether this identity has a right, without using it.

        Raises: MissingRight: it may not even ask (every account may as a rule, by `system:basic-user`).
        Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
        """
        resource, _, subresource = right.resource.partition("/")
        optional = {"namespace": right.namespace, "subresource": subresource, "name": right.name}
        asked = {"verb": right.verb, "group": right.group, "resource": resource}
        asked |= {field: value for field, value in optional.items() if value}
        review = {
            "apiVersion": ACCESS_REVIEWS.api_version,
            "kind": ACCESS_REVIEWS.kind,
            "spec": {"resourceAttributes": asked},
        }
        answer = await self.transport.request("POST", ACCESS_REVIEWS.path(), what="its own rights", body=review)
        return bool(answer.content.get("status", {}).get("allowed"))

    async def rules(self, namespace: str) -> list[dict[str, Any]]:
        """
        Return what this identity may do in a namespace, as rules of RBAC: verbs, apiGroups, resources, resourceNames.

        Raises: MissingRight: it may not even ask (every account may as a rule, by `system:basic-user`).
        Source: https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/self-subject-rules-review-v1/
        """
        review = {
            "apiVersion": RULES_REVIEWS.api_version,
            "kind": RULES_REVIEWS.kind,
            "spec": {"namespace": namespace},
        }
        answer = await self.transport.request("POST", RULES_REVIEWS.path(), what="its own rights", body=review)
        return answer.content.get("status", {}).get("resourceRules") or []

    async def kinds(self) -> list[Resource]:
        """Return all that the API server serves now, for each group its preferred version first."""
        return await self._discovery.kinds()

    def watch(
        self,
        resource: Resource,
        namespace: str,
        *,
        resource_version: str,
        server_seconds: int,
        silence_seconds: float,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AbstractAsyncContextManager[AsyncIterator[dict[str, Any]]]:
        """Open one watch from a position; kube.watch keeps it going."""
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(server_seconds),
        }
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        path = resource.path(namespace)
        return self.transport.stream(path, what=resource.plural, query=query, silence_seconds=silence_seconds)


def _named(resource: Resource, namespace: str, name: str) -> str:
    return f"{resource.kind} {namespace}/{name}" if namespace else f"{resource.kind} {name}"
