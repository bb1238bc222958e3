"""
Field changes: how an object would differ from what it is, field by field. Pure: no I/O.

Compared are two answers of the API server, the live object and its dry-run result, so that defaults and what webhooks
fill in are on both sides and show nowhere. Values of Secrets never leave this module, nor any digest of them: whoever
reads a plan learns that they differ, and not by what.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from fairlead_agent.apply.ignored import without
from fairlead_shared.progress import MAX_FIELDS, MAX_POINTER_CHARACTERS, MAX_VALUE_CHARACTERS, FieldChange


class _Nothing(Enum):
    ABSENT = "absent"


ABSENT: Final = _Nothing.ABSENT
"""In place of a value: there is none, which is something else than null."""

_SERVER_METADATA: Final = frozenset(
    {"creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"}
)
"""What only the API server writes."""
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
"""Where kubectl keeps a copy of the whole manifest: what differs there is seen where it takes effect."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs."""

    path: tuple[str | int, ...]
    """Keys and places. Of what is removed from a list, places before; of what is added, places after."""
    before: Any | Literal[_Nothing.ABSENT]
    after: Any | Literal[_Nothing.ABSENT]


def differences(before: object, after: object, path: tuple[str | int, ...] = ()) -> Iterator[Difference]:
    """
    Yield what makes `after` of `before`, by the smallest fields that differ.

    Items at the beginning and the end of two lists that are equal are passed over; those between are compared one by
    one, and what one list has more was added or removed.

    Args:
        before: Parsed JSON.
        after: Parsed JSON.
        path: Where they are.
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key, ABSENT), after.get(key, ABSENT), (*path, key))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _of_lists(before, after, path)
    elif not _is_same(before, after):
        yield Difference(path, before, after)


def field_changes(
    one: Mapping[str, Any], other: Mapping[str, Any], ignored: Sequence[Sequence[str]] = ()
) -> tuple[tuple[FieldChange, ...], int]:
    """
    Return what is told of a change.

    Args:
        one: The object before it, as the API server has it or would make it.
        other: The same object after it.
        ignored: Paths that are not compared.
    Returns: At most MAX_FIELDS changes, and how many more there are.
    """
    before, after = _compared(without(one, ignored)), _compared(without(other, ignored))
    is_secret = (other["apiVersion"], other["kind"]) == ("v1", "Secret")
    told: list[FieldChange] = []
    left_out = 0
    if is_secret:
        # Not even which keys: in a bundle these are sealed, too.
        values, others = before.pop("data", None), after.pop("data", None)
        if not _is_same(values or {}, others or {}):
            told.append(FieldChange(pointer="/data", masked=True))
    for found in differences(before, after):
        pointer = pointer_of(found.path)
        if len(told) == MAX_FIELDS or len(pointer) > MAX_POINTER_CHARACTERS:
            left_out += 1
        elif is_secret:
            # Annotations of a Secret may repeat its values.
            told.append(FieldChange(pointer=pointer, masked=True))
        else:
            told.append(FieldChange(pointer=pointer, before=_text(found.before), after=_text(found.after)))
    return tuple(told), left_out


def pointer_of(path: Sequence[str | int]) -> str:
    """Return a path as a JSON pointer. Source: RFC 6901, section 3."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _of_lists(before: list[Any], after: list[Any], path: tuple[str | int, ...]) -> Iterator[Difference]:
    shorter = min(len(before), len(after))
    start = 0
    while start < shorter and _is_same(before[start], after[start]):
        start += 1
    end = 0
    while end < shorter - start and _is_same(before[-1 - end], after[-1 - end]):
        end += 1
    paired = shorter - end
    for place in range(start, paired):
        yield from differences(before[place], after[place], (*path, place))
    for place in range(paired, len(before) - end):
        yield Difference((*path, place), before[place], ABSENT)
    for place in range(paired, len(after) - end):
        yield Difference((*path, place), ABSENT, after[place])


def _is_same(one: object, other: object) -> bool:
    """Compare as JSON does: true is not 1, and 1 is not 1.0."""
    return one is other or (type(one) is type(other) and _dumped(one) == _dumped(other))


def _compared(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of an object could show a change: no status, nothing only the server writes."""
    metadata = {name: value for name, value in manifest["metadata"].items() if name not in _SERVER_METADATA}
    given = metadata.pop("annotations", None) or {}
    annotations = {name: value for name, value in given.items() if name != _LAST_APPLIED}
    kept = {name: value for name, value in manifest.items() if name not in {"metadata", "status"}}
    return kept | {"metadata": metadata | ({"annotations": annotations} if annotations else {})}


def _dumped(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _text(value: object) -> str | None:
    if value is ABSENT:
        return None
    text = _dumped(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 1] + "…"
