"""
Live objects, as far as a comparison needs them: UID, deletion, and a digest of what a write of ours could change.

Where a bundle has several objects of one kind in one namespace, one list tells about all that we own there, for a
fraction of the requests. Digests instead of objects: thousands must not cost memory. Writes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fairlead_agent.apply.inventory import OWNER_LABEL
from fairlead_agent.errors import KubeError
from fairlead_agent.kube.client import FIELD_MANAGER, KubeClient
from fairlead_agent.kube.resources import Resource
from fairlead_shared.objects import ObjectRef

WORTH_LISTING = 4
"""Objects of one kind and namespace from which a list costs the API server less than reading them one by one."""
_VOLATILE_METADATA = frozenset({"resourceVersion", "generation", "managedFields"})
_LEFT_OUT = frozenset({"apiVersion", "kind", "metadata", "status"})


@dataclass(frozen=True, slots=True)
class Live:
    """One live object."""

    uid: str
    resource_version: str
    digest: bytes
    deleted: bool
    """Whether it is being deleted."""
    finalizers: tuple[str, ...]


def live_of(manifest: Mapping[str, Any]) -> Live:
    """Return what is kept of a live object."""
    metadata = manifest["metadata"]
    finalizers = tuple(metadata.get("finalizers") or ())
    return Live(
        metadata["uid"],
        metadata["resourceVersion"],
        digest_of(manifest),
        bool(metadata.get("deletionTimestamp")),
        finalizers,
    )


def digest_of(manifest: Mapping[str, Any]) -> bytes:
    """
    Return a digest of what a write of ours could change.

    No status, no versions, and of the managed fields our own entry only: the fields we own, not when and beside whom.
    Of labels and annotations only those that we own: controllers note there what they do, some of them all the time.
    """
    metadata = {name: value for name, value in manifest["metadata"].items() if name not in _VOLATILE_METADATA}
    ours = [
        entry.get("fieldsV1") or {}
        for entry in manifest["metadata"].get("managedFields") or []
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"
    ]
    for name in ("labels", "annotations"):
        owned = {key for fields in ours for key in (fields.get("f:metadata") or {}).get(f"f:{name}") or {}}
        metadata[name] = {key: value for key, value in (metadata.get(name) or {}).items() if f"f:{key}" in owned}
    rest = {name: value for name, value in manifest.items() if name not in _LEFT_OUT}
    text = json.dumps([metadata, ours, rest], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


class LiveObjects:
    """The live objects of one environment, of the kinds and namespaces that were worth a list."""

    def __init__(self, client: KubeClient, owner: str) -> None:
        self._client = client
        self._owner = owner
        self._known: dict[tuple[str, str, str, str], Live] = {}

    def get(self, ref: ObjectRef) -> Live | None:
        """Return a listed object of ours; None says nothing: it was not listed, is not there, or is not ours."""
        return self._known.get(ref.identity)

    async def list(self, wanted: Iterable[tuple[Resource, str]]) -> None:
        """
        List what is worth it.

        Args:
            wanted: (resource, namespace) of each object of the bundle.
        Raises: KubeError: temporary ones. Without the right to list, objects are read one by one.
        """
        counted = Counter(wanted)
        await asyncio.gather(*(self._list(*where) for where, count in counted.items() if count >= WORTH_LISTING))

    async def _list(self, resource: Resource, namespace: str) -> None:
        token = ""
        selector = f"{OWNER_LABEL}={self._owner}"
        while True:
            try:
                page = await self._client.page(resource, namespace, token=token, label_selector=selector)
            except KubeError as error:
                if error.temporary:
                    raise
                return
            for item in page.items:
                self._known[resource.ref(item).identity] = live_of(item)
            token = page.token
            if not token:
                return
