"""
The objects of a bundle as they will be written: own fields stripped, owner marked, Secrets opened at the last moment.

Holds the bundle's bytes and parses one object when it is asked for, so that thousands cost no more memory than the
bundle. Plaintext of Secrets lives only in the manifest handed out.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, overload

from fairlead_agent.apply.hooks import Hook, hook_of
from fairlead_agent.apply.inventory import ENVIRONMENT_ANNOTATION, OWNER_LABEL
from fairlead_agent.kube.resources import Resource
from fairlead_agent.ports import Contents
from fairlead_shared.errors import SealInvalid
from fairlead_shared.objects import ObjectRef

_LINE_END = re.compile(rb"\n")
_SERVER_FIELDS = frozenset(
    {"creationTimestamp", "deletionTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"}
)
"""Metadata that the API server writes; exported manifests repeat it, and apply refuses some of it."""


class WantedObjects(Sequence[dict[str, Any]]):
    """The manifests of one deployment, each known by its place in the bundle."""

    def __init__(self, work: Contents) -> None:
        self._content = work.bundle.content
        self._ends = array("Q", (found.start() for found in _LINE_END.finditer(self._content)))
        """Of each line; the first is the bundle's header."""
        self._work = work
        self._annotations: dict[int, dict[str, str]] = {}
        self.refs: list[ObjectRef] = []
        """Of each object; the namespace is settled by `settle`."""
        self.hooks: dict[int, Hook] = {}
        """The objects that are hooks, by their place."""
        for place in range(len(self)):
            manifest = self._parsed(place)
            self.refs.append(ObjectRef.of(manifest))
            if (hook := hook_of(manifest)) is not None:
                self.hooks[place] = hook

    @property
    def owner(self) -> str:
        """The owner label that these objects carry."""
        return self._work.environment.owner

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return the manifest as the bundle has it, in its settled namespace; Secrets stay sealed."""
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        manifest = self._parsed(place)
        manifest["metadata"]["namespace"] = self.refs[place].namespace
        return manifest

    def _parsed(self, place: int) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads(self._content[self._ends[place] + 1 : self._ends[place + 1]])
        return manifest

    def settle(self, place: int, resource: Resource) -> None:
        """
        Give an object the namespace its kind asks for.

        As kubectl does, a namespace on a cluster-scoped object is dropped; an object without one goes to the
        statement's namespace if that names exactly one.
        """
        ref = self.refs[place]
        namespace = ref.namespace
        if not resource.namespaced:
            namespace = ""
        elif not namespace and len(self._work.namespaces) == 1:
            namespace = self._work.namespaces[0]
        if namespace != ref.namespace:
            self.refs[place] = replace(ref, namespace=namespace)

    def annotate(self, place: int, name: str, value: str) -> None:
        """Have an object carry one more annotation when it is written."""
        self._annotations[place] = {name: value}

    def secret_values(self) -> Iterator[bytes]:
        """Yield the values of all Secrets of the bundle that this agent can open."""
        for place, ref in enumerate(self.refs):
            if (ref.group, ref.kind) == ("", "Secret"):
                with contextlib.suppress(SealInvalid):
                    for value in (self.prepared(place).get("data") or {}).values():
                        yield base64.b64decode(value)

    def may_force(self, place: int) -> bool:
        """Tell whether an object's fields may be taken over from other field managers."""
        return self._work.policy.may_force(self.refs[place])

    def ignored(self, place: int) -> tuple[tuple[str, ...], ...]:
        """Return the paths of an object's fields that the operator leaves to others."""
        return self._work.policy.ignored(self.refs[place])

    def prepared(self, place: int) -> dict[str, Any]:
        """
        Return the manifest to send, with this environment's owner label and annotation.

        Raises: SealInvalid: a sealed value that this agent cannot open.
        """
        manifest = self[place]
        ref = self.refs[place]
        environment = self._work.environment
        manifest.pop("status", None)
        metadata = {field: value for field, value in manifest["metadata"].items() if field not in _SERVER_FIELDS}
        if not ref.namespace:
            metadata.pop("namespace")
        metadata["labels"] = {**(metadata.get("labels") or {}), OWNER_LABEL: environment.owner}
        metadata["annotations"] = {
            **(metadata.get("annotations") or {}),
            ENVIRONMENT_ANNOTATION: str(environment),
            **self._annotations.get(place, {}),
        }
        manifest["metadata"] = metadata
        if (ref.group, ref.kind) == ("", "Secret") and "sealedData" in manifest:
            sealed = manifest.pop("sealedData")
            values = self._work.unseal(sealed, ref.namespace, ref.name)
            manifest["data"] = {key: base64.b64encode(value).decode() for key, value in values.items()}
        return manifest
