"""
What a deployment would change, as far as the developer's machine can tell: objects in one bundle and in another.

The cluster is not asked; what it fills in, refuses or has drifted to is the agent's preflight to find. Values of
Secrets are sealed to the agent, so nobody here can compare them, and none is shown.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import yaml
from pydantic import BaseModel

from fairlead_cli.manifests import Located
from fairlead_shared.canonical import canonical_json
from fairlead_shared.objects import ObjectRef

MAX_COMPARED_LINES = 20_000
"""Of one object, both sides together; comparing takes time that grows with their product."""

_SEALED = "(sealed)"
_VALUE_FIELDS = ("data", "stringData", "sealedData")

ChangeAction = Literal["created", "changed", "unchanged", "pruned", "unknown"]


class ObjectChange(BaseModel):
    """One object, and what a deployment would do to it."""

    object: ObjectRef
    action: ChangeAction
    """`unknown` if only sealed values, which cannot be compared, could have changed."""
    origin: str = ""
    """FILE:LINE; empty for what is no longer named."""
    diff: str = ""
    """Unified, of YAML; empty if nothing is seen to change."""


class Changes(BaseModel):
    """What a deployment would change in an environment."""

    application: str
    environment: str
    cluster: str
    compared_with: str | None
    """The deployment that succeeded last; None before the first."""
    bundle_sha256: str | None = None
    """Of the bundle that would be sent; None if it has Secrets, which are sealed anew each time."""
    bundle_bytes: int | None = None
    objects: list[ObjectChange]

    def counts(self) -> dict[str, int]:
        """Return how many objects each action has."""
        actions: tuple[ChangeAction, ...] = ("created", "changed", "pruned", "unknown", "unchanged")
        return {action: sum(one.action == action for one in self.objects) for action in actions}

    @property
    def is_changed(self) -> bool:
        """Whether something is seen to change."""
        return any(one.diff for one in self.objects)


def compare(before: Iterable[dict[str, Any]], after: Sequence[Located], label: str) -> list[ObjectChange]:
    """
    Compare the objects of two bundles.

    Args:
        before: The manifests that were deployed, from their bundle.
        after: What is to be deployed.
        label: What the diffs call the former.
    Returns: Every object of either, in a bundle's order.
    """
    old = {ObjectRef.of(manifest).identity: manifest for manifest in before}
    new = {one.ref.identity: one for one in after}
    return [_change(old.get(identity), new.get(identity), label) for identity in sorted(old.keys() | new.keys())]


def _change(old: dict[str, Any] | None, new: Located | None, label: str) -> ObjectChange:
    ref = new.ref if new is not None else ObjectRef.of(old or {})
    origin = str(new.origin) if new is not None else ""
    one, other = _visible(old), _visible(new.manifest if new is not None else None)
    if one == other:
        is_sealed = other is not None and other.get("sealedData") == _SEALED
        return ObjectChange(object=ref, action="unknown" if is_sealed else "unchanged", origin=origin)
    action: ChangeAction = "created" if one is None else "pruned" if other is None else "changed"
    titles = (label if one is not None else "/dev/null", origin or "/dev/null")
    return ObjectChange(object=ref, action=action, origin=origin, diff="\n".join(_diff(ref, one, other, titles)))


def _visible(manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a manifest as its bundle has it, with one word in place of a Secret's values."""
    if manifest is None:
        return None
    if manifest["kind"] == "Secret" and "/" not in manifest["apiVersion"]:
        has_values = any(manifest.get(field) for field in _VALUE_FIELDS)
        kept = {key: value for key, value in manifest.items() if key not in _VALUE_FIELDS}
        manifest = kept | ({"sealedData": _SEALED} if has_values else {})
    visible: dict[str, Any] = json.loads(canonical_json(manifest))
    return visible


def _diff(
    ref: ObjectRef, old: dict[str, Any] | None, new: dict[str, Any] | None, titles: tuple[str, str]
) -> Iterator[str]:
    lines, other_lines = _yaml_lines(old), _yaml_lines(new)
    if len(lines) + len(other_lines) > MAX_COMPARED_LINES:
        yield from (f"--- {titles[0]} {ref}", f"+++ {titles[1]} {ref}")
        yield f"@@ -1,{len(lines)} +1,{len(other_lines)} @@ more than {MAX_COMPARED_LINES:,} lines, which differ"
        return
    before, after = (f"{title} {ref}" for title in titles)
    yield from difflib.unified_diff(lines, other_lines, before, after, lineterm="")


def _yaml_lines(manifest: dict[str, Any] | None) -> list[str]:
    if manifest is None:
        return []
    text: str = yaml.safe_dump(manifest, sort_keys=True, allow_unicode=True, width=1000)
    return text.splitlines()
