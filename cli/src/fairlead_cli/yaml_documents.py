"""
YAML as Kubernetes' own tools read it, with the line of every mapping kept.

PyYAML's loaders follow YAML 1.1 to the letter, take `12:30` for a number and a date for a date, let a repeated key win
and expand aliases without bound. So its C parser is used for events only, and values are made here. JSON that YAML
cannot read is read as JSON. This module opens no files and knows nothing of Kubernetes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from fairlead_cli.errors import ManifestInvalid

MAX_NODES = 2_000_000
"""Values in one file with its aliases expanded; 20,000 objects of 100 values, more than a bundle may hold."""

MAX_DEPTH = 100
"""Nesting of lists and mappings in one document, aliases expanded: a bundle allows 64, below List and its items."""

_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # ten times faster where libyaml is there, as in every wheel

_STRING = "tag:yaml.org,2002:str"
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float")}
_CONTAINER_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_INTEGER = re.compile(r"[-+]?(0b[01]+|0o?[0-7]+|0x[0-9a-fA-F]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_DIGITS = 400
"""Longer numbers are text: Python itself refuses to read integers of thousands of digits."""

_EXACT_INTEGERS = 2.0**53
"""Floats above it are not exact integers any more."""


class Block(dict[str, Any]):
    """A mapping that knows where it began."""

    line = 0
    """From 1; 0 when it is not known (JSON that is no YAML)."""


def read_documents(text: str, file: str) -> list[tuple[Any, int]]:
    """
    Read all documents of one file.

    Args:
        text: The whole file.
        file: Its name, for errors.
    Returns: Each document's value with the line it begins on; empty documents are left out.
    Raises: ManifestInvalid: not YAML, a repeated key, a key or number JSON has no word for, or a bound passed.
    """
    try:
        return [(value, line) for value, line in _Builder(text, file).documents() if value is not None]
    except yaml.YAMLError as error:
        if text.lstrip()[:1] in {"{", "["}:
            return [(_read_json(text, file), 1)]
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        reason = f"this is not valid YAML: {problem}"
        raise ManifestInvalid(reason, file=file, line=mark.line + 1 if mark else 0) from None


def _read_json(text: str, file: str) -> Any:  # noqa: ANN401  (whatever JSON holds)
    """Read JSON that YAML cannot, such as strings with surrogate pairs."""

    def block(pairs: list[tuple[str, Any]]) -> Block:
        made = Block(pairs)
        if len(made) != len(pairs):
            names = [name for name, _ in pairs]
            repeated = next(name for name in names if names.count(name) > 1)
            raise ManifestInvalid(f"the key {repeated!r} occurs twice in one object", file=file)
        return made

    def refuse(constant: str) -> None:
        raise ManifestInvalid(f"{constant} is no value of a Kubernetes object", file=file)

    try:
        return json.loads(text, object_pairs_hook=block, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ManifestInvalid(f"this is not valid JSON: {error.msg}", file=file, line=error.lineno) from None
    except (RecursionError, ValueError):
        raise ManifestInvalid("this JSON is nested too deep, or has a number too long", file=file) from None


class _Anchored(NamedTuple):
    """What an alias may stand for."""

    value: Any
    nodes: int
    """Values in it, its own aliases expanded."""
    depth: int
    """Lists and mappings in each other, its own aliases expanded; 0 for a scalar."""


class _Builder:
    """Makes values from the parser's events, depth first."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._anchors: dict[str, _Anchored] = {}
        self._has_aliases = False
        self._nodes = 0
        self._deepest = 0

    def documents(self) -> Iterator[tuple[Any, int]]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors.clear()
                self._has_aliases = False
                first = next(self._events)
                value = self._value(first, 0)
                # Only now, when all of it is counted: a document that is refused has copied nothing.
                yield _unshared(value) if self._has_aliases else value, first.start_mark.line + 1

    def _value(self, event: Any, depth: int) -> Any:  # noqa: ANN401  (PyYAML's events are untyped; a value is any)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        before, deepest, self._deepest = self._nodes, self._deepest, depth
        self._count(1, event)
        if isinstance(event, yaml.ScalarEvent):
            made = self._scalar(event)
        else:
            self._reach(depth + 1, event)
            if event.tag is not None and event.tag not in _CONTAINER_TAGS:
                self._refuse(event, f"the tag {event.tag!r} means nothing to Kubernetes")
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            made = self._mapping(event, depth + 1) if is_mapping else self._sequence(depth + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(made, self._nodes - before, self._deepest - depth)
        self._deepest = max(deepest, self._deepest)
        return made

    def _sequence(self, depth: int) -> list[Any]:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, depth))
        return items

    def _mapping(self, start: Any, depth: int) -> Block:  # noqa: ANN401
        made = Block()
        made.line = start.start_mark.line + 1
        merged: list[Any] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            value = self._value(next(self._events), depth)
            if key == "<<" and isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
                merged.append((event, value))
            elif key in made:
                self._refuse(event, f"the key {key!r} occurs twice in one mapping")
            else:
                made[key] = value
        for event, value in merged:
            sources = value if isinstance(value, list) else [value]
            for source in sources:
                if not isinstance(source, dict):
                    self._refuse(event, "'<<' merges mappings only")
                for key, inherited in source.items():
                    made.setdefault(key, inherited)
        return made

    def _key(self, event: Any) -> str:  # noqa: ANN401
        key = self._value(event, 0) if isinstance(event, yaml.ScalarEvent | yaml.AliasEvent) else None
        if isinstance(key, bool):  # `on: …`: what the API server gets from kubectl
            return "true" if key else "false"
        if isinstance(key, int):
            return str(key)
        if not isinstance(key, str):
            self._refuse(event, "a key must be a string")
        return str(key)

    def _alias(self, event: Any, depth: int) -> Any:  # noqa: ANN401
        if event.anchor not in self._anchors:
            self._refuse(event, f"the alias *{event.anchor} has no anchor before it")
        anchored = self._anchors[event.anchor]
        self._count(anchored.nodes, event)
        self._reach(depth + anchored.depth, event)
        self._has_aliases = True
        return anchored.value

    def _scalar(self, event: Any) -> Any:  # noqa: ANN401
        text: str = event.value
        if event.tag not in {None, "!", _STRING, *_TAGS}:
            self._refuse(event, f"the tag {event.tag!r} means nothing to Kubernetes; write the value as a string")
        if event.tag in {"!", _STRING} or (event.tag is None and not event.implicit[0]):
            return text
        if text in _WORDS:
            return _WORDS[text]
        if text[0] not in "+-.0123456789" or len(text) > _MAX_DIGITS:
            return text
        if _NO_NUMBER.fullmatch(text):
            self._refuse(event, f"{text} is no value of a Kubernetes object; quote it if a string is meant")
        return _number(text)

    def _count(self, nodes: int, event: Any) -> None:  # noqa: ANN401
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            self._refuse(event, f"with aliases expanded it holds more than {MAX_NODES:,} values")

    def _reach(self, depth: int, event: Any) -> None:  # noqa: ANN401
        if depth > MAX_DEPTH:
            self._refuse(event, f"lists and mappings are nested deeper than {MAX_DEPTH}")
        self._deepest = max(self._deepest, depth)

    def _refuse(self, event: Any, reason: str) -> None:  # noqa: ANN401
        raise ManifestInvalid(reason, file=self._file, line=event.start_mark.line + 1)


def _unshared(value: Any) -> Any:  # noqa: ANN401
    """Copy a value so that nothing in it is there twice: each alias becomes a copy."""
    if isinstance(value, Block):
        copied = Block({key: _unshared(held) for key, held in value.items()})
        copied.line = value.line
        return copied
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def _number(text: str) -> int | float | str:
    """
    Read a plain scalar that begins like a number.

    Source: resolution in sigs.k8s.io/yaml (go-yaml 2): a leading 0 is octal, `_` separates digits, `1:30` is text.
    """
    digits = text.replace("_", "")
    if _INTEGER.fullmatch(digits):
        sign, magnitude = (-1, digits[1:]) if digits[0] == "-" else (1, digits.lstrip("+"))
        is_old_octal = len(magnitude) > 1 and magnitude[0] == "0" and magnitude[1].isdigit()
        return sign * (int(magnitude, 8) if is_old_octal else int(magnitude, 0))
    if not _FLOAT.fullmatch(digits):
        return text
    number = float(digits)
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() and abs(number) < _EXACT_INTEGERS else number
