"""
Whether applying a manifest would change nothing, told from the live object alone.

A live object records which of its fields our last apply set. Where these are the fields of the manifest, and have its
values, in its order, another apply of it is the same apply: the API server would answer with the object as it is. So
an object that is in place needs no dry-run, which costs the API server as much as a write.

What cannot be told without the kind's schema is a "no", and the API server's to say: a value that it stores in another
form (a quantity of 1000m), a field given as null, a list that it merges by position.

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/ and FieldsV1 of
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairlead_agent.kube.client import FIELD_MANAGER

_IDENTITY = ("apiVersion", "kind", "metadata")
_NAMES = ("name", "namespace")
_FIELD, _KEY, _VALUE = "f:", "k:", "v:"

Fields = Mapping[str, Any]
"""A node of FieldsV1: child → node, with `.` for the field itself."""


def is_as_applied(manifest: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """
    Return whether applying a manifest, as it is to be sent, would leave a live object as it is.

    Admission is not asked: nothing is written. False says nothing.
    """
    entries = live["metadata"].get("managedFields") or []
    ours = [entry for entry in entries if _is_ours(entry)]
    if len(ours) != 1 or ours[0].get("apiVersion") != manifest["apiVersion"]:
        return False
    others = [entry.get("fieldsV1") or {} for entry in entries if entry is not ours[0]]
    metadata = {name: value for name, value in manifest["metadata"].items() if name not in _NAMES}
    body = {name: value for name, value in manifest.items() if name not in _IDENTITY}
    if metadata:
        body["metadata"] = metadata
    return _is_same_map(ours[0].get("fieldsV1") or {}, body, live, others)


def _is_ours(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource")


def _is_same(fields: Fields, wanted: object, live: object, others: Sequence[Fields]) -> bool:
    """
    Compare one field.

    Args:
        fields: What we own beneath it.
        wanted: Its value in the manifest.
        live: Its live value.
        others: What every other manager owns beneath it.
    """
    if not fields.keys() - {"."}:
        # Applied empty and filled by others since, it would become ours as well; what is owned as a whole nobody fills.
        is_whole = not isinstance(wanted, dict | list) or not any(other.keys() - {"."} for other in others)
        return is_whole and is_identical(wanted, live)
    if isinstance(wanted, dict) and isinstance(live, dict):
        return _is_same_map(fields, wanted, live, others)
    if isinstance(wanted, list) and isinstance(live, list):
        if all(child.startswith(_VALUE) for child in fields.keys() - {"."}):
            return _is_same_set(fields, wanted, live)
        return _is_same_list(fields, wanted, live, others)
    return False


def _is_same_map(fields: Fields, wanted: Mapping[str, Any], live: Mapping[str, Any], others: Sequence[Fields]) -> bool:
    if fields.keys() - {"."} != {f"{_FIELD}{name}" for name in wanted}:
        return False
    for name, value in wanted.items():
        child = f"{_FIELD}{name}"
        if name not in live or not _is_same(fields[child], value, live[name], _beneath(others, child)):
            return False
    return True


def _is_same_set(fields: Fields, wanted: Sequence[Any], live: Sequence[Any]) -> bool:
    """Compare a list of which each value is owned for itself; others may have theirs among them."""
    owned = {_canonical(json.loads(child.removeprefix(_VALUE))) for child in fields if child != "."}
    kept = [value for value in live if _canonical(value) in owned]
    return len(owned) == len(wanted) and is_identical(list(wanted), kept)


def _is_same_list(fields: Fields, wanted: Sequence[Any], live: Sequence[Any], others: Sequence[Fields]) -> bool:
    """Compare a list whose items have keys; others may have theirs among them."""
    children = [child for child in fields if child != "."]
    if not all(child.startswith(_KEY) for child in children):
        return False
    keys = [json.loads(child.removeprefix(_KEY)) for child in children]
    owned = dict(zip(map(_canonical, keys), children, strict=True))
    kept = [(owned[key], item) for item in live if (key := _key_of(item, keys[0])) in owned]
    return len(wanted) == len(kept) == len(children) and all(
        _is_same_item(fields[child], one, item, _beneath(others, child))
        for one, (child, item) in zip(wanted, kept, strict=True)
    )


def _is_same_item(fields: Fields, wanted: object, live: Mapping[str, Any], others: Sequence[Fields]) -> bool:
    """Compare one item; a key that it leaves out, such as a port's protocol, is a default, and not ours."""
    return isinstance(wanted, dict) and _is_same_map(fields, wanted, live, others)


def _key_of(item: object, names: Iterable[str]) -> str:
    """Return what an item of a list is known by; empty if it has no such key."""
    if not isinstance(item, dict) or not all(name in item for name in names):
        return ""
    return _canonical({name: item[name] for name in names})


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _beneath(others: Sequence[Fields], child: str) -> list[Fields]:
    return [other[child] for other in others if child in other]


def is_identical(one: object, other: object) -> bool:
    """Compare two values of JSON; Python takes true for 1, and 1.0 for 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_identical(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_identical, one, other))
    return type(one) is type(other) and one == other
