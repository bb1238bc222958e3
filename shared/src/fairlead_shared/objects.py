"""References to Kubernetes objects: how CLI, relay and agent name the same object in events and errors."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

Manifest = Mapping[str, Any]
"""One Kubernetes object as parsed JSON."""


_Shared = AfterValidator(sys.intern)
"""What thousands of objects have in common is in memory once."""


# Agents hold several for each object that they look after: with slots, one takes a fifth of a model's memory.
@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="ignore"))
class ObjectRef:
    """One Kubernetes object by version, kind, namespace and name."""

    api_version: Annotated[str, Field(max_length=317), _Shared]
    """`GROUP/VERSION`, or `VERSION` for the core group."""
    kind: Annotated[str, Field(max_length=63), _Shared]
    namespace: Annotated[str, Field(max_length=63), _Shared] = ""
    """Empty for cluster-scoped objects."""
    name: Annotated[str, Field(max_length=253)]

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return the reference of a manifest whose apiVersion, kind and metadata.name were checked before."""
        metadata = manifest["metadata"]
        return cls(
            api_version=manifest["apiVersion"],
            kind=manifest["kind"],
            namespace=metadata.get("namespace", ""),
            name=metadata["name"],
        )

    @property
    def group(self) -> str:
        """API group, empty for the core group."""
        group, slash, _ = self.api_version.partition("/")
        return sys.intern(group) if slash else ""

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """(group, kind, namespace, name): what stays the same when an object moves to another version of its API."""
        return (self.group, self.kind, self.namespace, self.name)

    def __str__(self) -> str:
        """`Kind namespace/name`, with the group where the kind alone could be ambiguous."""
        kind = f"{self.kind}.{self.group}" if "." in self.group else self.kind
        return f"{kind} {self.namespace}/{self.name}" if self.namespace else f"{kind} {self.name}"
