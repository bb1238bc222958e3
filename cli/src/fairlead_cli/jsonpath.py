r"""
Templates by which scripts choose from an answer, as `kubectl -o jsonpath` has them: a subset that always ends.

    {.name}                                        a field; of several values, all with a space between
    {.items[0].id} {.items[*].name}                one of a list, from the end if negative, or each
    {.items[?(@.state=="failed")].id}              those of a list with a value; also !=, or @.field alone
    {range .items[*]}{.name}{"\t"}{.state}{"\n"}{end}     a text for each
    {.labels['app.kubernetes.io/name']}            a name with dots in it; `\.` is another way

`$` is the whole answer, `@` the current value. What is missing or null is nothing; lists and mappings are printed as
JSON. There is no recursive descent, no script and no slice. Pure: this module reads and prints nothing.

Source: https://kubernetes.io/docs/reference/kubectl/jsonpath/
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_TEMPLATE_CHARACTERS = 4096
MAX_RANGES = 4
"""One in another. Each may go through all items for each of the outer one's."""
MAX_VALUES = 200_000
"""Texts that a template may give before it is stopped."""

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_PIECE = re.compile(r"\{(?P<inside>(?:[^{}'\"]|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*')*)\}|(?P<text>[^{}]+)", re.DOTALL)
_QUOTED = re.compile(r"\"((?:\\.|[^\"\\])*)\"|'((?:\\.|[^'\\])*)'", re.DOTALL)
_NAME = re.compile(r"\.?((?:\\.|[A-Za-z0-9_/-])+)")
_INDEX = re.compile(r"\[(-?\d{1,9})\]")
_EACH = re.compile(r"\[\*\]|\.\*")
_FILTER = re.compile(r"\[\?\(@(?P<path>[^=!()]*?)(?:\s*(?P<operator>==|!=)\s*(?P<literal>.+?))?\)\]")


class TemplateInvalid(ValueError):
    """A template that is none, or that gives too much; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str


@dataclass(frozen=True, slots=True)
class _Index:
    number: int


@dataclass(frozen=True, slots=True)
class _Each:
    pass


@dataclass(frozen=True, slots=True)
class _Where:
    steps: tuple[_Step, ...]
    is_equal: bool
    literal: Any
    is_presence: bool


_Step = _Field | _Index | _Each | _Where


@dataclass(frozen=True, slots=True)
class _Path:
    is_from_root: bool
    steps: tuple[_Step, ...]


@dataclass(frozen=True, slots=True)
class _Range:
    path: _Path
    body: tuple[_Node, ...]


_Node = str | _Path | _Range


@dataclass(frozen=True, slots=True)
class Template:
    """A template that was read."""

    source: str
    nodes: tuple[_Node, ...]

    def render(self, tree: Any) -> str:  # noqa: ANN401  (JSON)
        """
        Apply the template to an answer.

        Raises: TemplateInvalid: it gives more than MAX_VALUES texts.
        """
        return "".join(_render(self.nodes, tree, tree, [MAX_VALUES]))


def parse_template(source: str) -> Template:
    """
    Read a template.

    Raises: TemplateInvalid: a brace, a quote or a bracket is missing, or it is none of the forms above.
    """
    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise TemplateInvalid(f"it has more than {MAX_TEMPLATE_CHARACTERS:,} characters")
    return Template(source, _Parser().parse(_pieces(source)))


def _pieces(source: str) -> Iterator[re.Match[str]]:
    """Yield text and braces in turn."""
    position = 0
    while position < len(source):
        piece = _PIECE.match(source, position)
        if piece is None:
            raise TemplateInvalid(f"at {source[position : position + 20]!r}: a brace or a quote is not closed")
        position = piece.end()
        yield piece


class _Parser:
    """Puts ranges one into another."""

    def __init__(self) -> None:
        self._ranges: list[_Path] = []
        """Those that are open, the innermost last."""
        self._bodies: list[list[_Node]] = [[]]
        """Of the template and of each open range."""

    def parse(self, pieces: Iterator[re.Match[str]]) -> tuple[_Node, ...]:
        for piece in pieces:
            if piece["inside"] is None:
                self._bodies[-1].append(piece["text"])
            else:
                self._take(piece["inside"].strip())
        if self._ranges:
            raise TemplateInvalid("a {range …} has no {end}")
        return tuple(self._bodies[0])

    def _take(self, inside: str) -> None:
        if inside == "end":
            if not self._ranges:
                raise TemplateInvalid("{end} has no {range …} before it")
            body = tuple(self._bodies.pop())
            self._bodies[-1].append(_Range(self._ranges.pop(), body))
        elif inside.startswith("range "):
            if len(self._ranges) == MAX_RANGES:
                raise TemplateInvalid(f"more than {MAX_RANGES} ranges are one in another")
            self._ranges.append(_parse_path(inside.removeprefix("range ").strip()))
            self._bodies.append([])
        elif quoted := _QUOTED.fullmatch(inside):
            self._bodies[-1].append(_unquoted(quoted))
        else:
            self._bodies[-1].append(_parse_path(inside))


def _parse_path(text: str) -> _Path:
    if text[:1] not in {"$", "@", ".", "["}:
        raise TemplateInvalid(f"{{{text}}} must begin with '.', for example {{.name}}")
    is_from_root = text[0] == "$"
    rest = text[1:] if text[0] in "$@" else text
    return _Path(is_from_root, () if rest == "." else _parse_steps(rest))


def _parse_steps(text: str) -> tuple[_Step, ...]:
    steps: list[_Step] = []
    position = 0
    while position < len(text):
        if match := _EACH.match(text, position):
            steps.append(_Each())
        elif match := _INDEX.match(text, position):
            steps.append(_Index(int(match[1])))
        elif match := _FILTER.match(text, position):
            steps.append(_where(match))
        elif text[position] == "[" and (match := _QUOTED.match(text, position + 1)) and text[match.end() :][:1] == "]":
            steps.append(_Field(_unquoted(match)))
            position = match.end() + 1
            continue
        elif text[position] == "." and (match := _NAME.match(text, position)):
            steps.append(_Field(re.sub(r"\\(.)", r"\1", match[1])))
        else:
            raise TemplateInvalid(f"{text[position:]!r} is no .field, [number], [*], ['name'] or [?(@.field==value)]")
        position = match.end()
    return tuple(steps)


def _where(match: re.Match[str]) -> _Where:
    literal: Any = None
    if match["operator"]:
        written = match["literal"].strip()
        quoted = _QUOTED.fullmatch(written)
        try:
            literal = _unquoted(quoted) if quoted else json.loads(written)
        except ValueError:
            raise TemplateInvalid(f"{written!r} is no value; write text in quotes") from None
    return _Where(_parse_steps(match["path"].strip()), match["operator"] != "!=", literal, not match["operator"])


def _unquoted(match: re.Match[str]) -> str:
    written = match[1] if match[1] is not None else match[2]
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), written, flags=re.DOTALL)


def _render(
    nodes: tuple[_Node, ...],
    root: Any,  # noqa: ANN401  (JSON)
    current: Any,  # noqa: ANN401  (JSON)
    left: list[int],
) -> Iterator[str]:
    for node in nodes:
        left[0] -= 1
        if left[0] < 0:
            raise TemplateInvalid(f"it gives more than {MAX_VALUES:,} texts")
        if isinstance(node, str):
            yield node
        elif isinstance(node, _Path):
            yield " ".join(_text(value) for value in _values(node, root, current) if value is not None)
        else:
            for value in _values(node.path, root, current):
                yield from _render(node.body, root, value, left)


def _values(path: _Path, root: Any, current: Any) -> list[Any]:  # noqa: ANN401  (JSON)
    values = [root if path.is_from_root else current]
    for step in path.steps:
        values = [found for value in values for found in _follow(step, value)]
    return values


def _follow(step: _Step, value: Any) -> list[Any]:  # noqa: ANN401  (JSON)
    match step:
        case _Field(name):
            return [value[name]] if isinstance(value, dict) and name in value else []
        case _Index(number):
            is_there = isinstance(value, list) and -len(value) <= number < len(value)
            return [value[number]] if is_there else []
        case _Each():
            return _members(value)
        case _Where():
            return [member for member in _members(value) if _is_wanted(step, member)]


def _members(value: Any) -> list[Any]:  # noqa: ANN401  (JSON)
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else []


def _is_wanted(where: _Where, member: Any) -> bool:  # noqa: ANN401  (JSON)
    found = _values(_Path(is_from_root=False, steps=where.steps), member, member)
    value = found[0] if found else None
    if where.is_presence:
        return value is not None
    return (value == where.literal) is where.is_equal


def _text(value: Any) -> str:  # noqa: ANN401  (JSON)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
