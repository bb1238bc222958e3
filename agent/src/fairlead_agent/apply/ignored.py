"""
Ignored fields: what the operator's policy leaves to others, such as the replicas that an autoscaler sets. Pure: no I/O.

A manifest's ignored field is left out once another field manager has it, too, or we no longer do. As long as only we
have it, it stays: server-side apply deletes what a manager had and no longer names. So a new object starts with what
the manifest says, and what somebody else then makes of it is not written against. What changes hands as one, such as a
list whose items have no keys, is left out as one. Reads managed fields, as field managers themselves do.
Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairlead_agent.kube.client import FIELD_MANAGER

Path = Sequence[str]
"""Parts of a JSON pointer; places in lists are decimal."""


def parts_of(pointer: str) -> tuple[str, ...]:
    """
    Return the parts of a JSON pointer.

    Raises: ValueError: it does not begin with a slash; the empty one, for the whole, is none either.
    Source: RFC 6901, sections 3 and 4
    """
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is no JSON pointer: it must begin with '/'")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/"))


def without(manifest: Mapping[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
    """Return a copy of an object without some fields; those that are not there are no matter."""
    kept: dict[str, Any] = copy.deepcopy(dict(manifest))
    # From the end of each list, so that no place moves before its turn.
    for path in sorted(map(tuple, paths), key=_order, reverse=True):
        holder = _at(kept, path[:-1])
        if isinstance(holder, dict):
            holder.pop(path[-1], None)
        elif isinstance(holder, list) and (place := _place(path[-1], holder)) is not None:
            del holder[place]
    return kept


def left_to_others(
    manifest: Mapping[str, Any], live: Mapping[str, Any], ignored: Iterable[Path], except_for: Sequence[str] = ()
) -> dict[str, Any]:
    """
    Return what to apply: the manifest without the ignored fields that are not ours alone.

    Args:
        manifest: As the bundle has it.
        live: The object as it is, with its managed fields.
        ignored: Paths into the manifest.
        except_for: Beginnings of names of managers whose fields are to become ours.
    """
    ours: list[Mapping[str, Any]] = []
    others: list[Mapping[str, Any]] = []
    for entry in live["metadata"].get("managedFields") or []:
        if entry.get("subresource") != "status":
            is_ours = is_of_deployments(entry) or str(entry.get("manager", "")).startswith(tuple(except_for))
            (ours if is_ours else others).append(entry.get("fieldsV1") or {})
    given_up: set[tuple[str, ...]] = set()
    for path in ignored:
        taken = {tuple(path[:length]) for fields in others if (length := owned_length(fields, manifest, path))}
        # Nobody at all has what was scaled to zero: the API server records no manager for it.
        if not taken and _at(live, path) is not None and not any(owned_length(one, manifest, path) for one in ours):
            taken = {tuple(path)}
        given_up |= taken
    return without(manifest, _outermost(given_up))


def is_of_deployments(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry of managed fields is what our deployments have."""
    return (entry.get("manager"), entry.get("operation")) == (FIELD_MANAGER, "Apply")


def owned_length(fields: Mapping[str, Any], content: object, path: Path) -> int:
    """
    Tell how much of a path names something that a set of fields has.

    Args:
        fields: FieldsV1.
        content: The object, to tell the items of lists by their keys.
        path: Into the object.
    Returns: Parts of the path, less than all where only the whole around it is had; 0 if nothing of it is.
    """
    for length, part in enumerate(path, start=1):
        child = _child(fields, content, part)
        if child is None:
            return 0
        fields, content = child
        if not fields.keys() - {"."}:
            return length
    return len(path)


def _child(fields: Mapping[str, Any], content: object, part: str) -> tuple[Mapping[str, Any], object] | None:
    if isinstance(content, list):
        place = _place(part, content)
        item = None if place is None else content[place]
        found = next((kept for name, kept in fields.items() if _is_item(name, item, place)), None)
        return None if found is None or place is None else (found, item)
    found = fields.get(f"f:{part}")
    return None if found is None else (found, content.get(part) if isinstance(content, Mapping) else None)


def _is_item(name: str, item: object, place: int | None) -> bool:
    """Tell whether the name of an item in a set of fields means this one."""
    mark, _, text = name.partition(":")
    if mark == "i":
        return text == str(place)
    if mark == "v":
        return bool(json.loads(text) == item)
    if mark != "k" or not isinstance(item, Mapping):
        return False
    keys: Mapping[str, Any] = json.loads(text)
    # A key that the manifest leaves out was filled in by the API server, as a port's protocol.
    return any(key in item for key in keys) and all(item.get(key, value) == value for key, value in keys.items())


def _at(content: object, path: Path) -> object:
    for part in path:
        if isinstance(content, Mapping):
            content = content.get(part)
        elif isinstance(content, list) and (place := _place(part, content)) is not None:
            content = content[place]
        else:
            return None
    return content


def _place(part: str, items: Sequence[object]) -> int | None:
    return int(part) if part.isdecimal() and part.isascii() and int(part) < len(items) else None


def _outermost(paths: set[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [path for path in paths if not any(path[:length] in paths for length in range(1, len(path)))]


def _order(path: tuple[str, ...]) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() and part.isascii() else (-1, part) for part in path]
