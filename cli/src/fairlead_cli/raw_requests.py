"""
Builds the request of `fairlead api` from what was typed: path, fields, headers.

A path can only lead to the relay that the token is for. This module sends nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from fairlead_cli.errors import RequestInvalid

MAX_FIELD_BYTES = 16 * 1024 * 1024
"""Of a file that a field or a body is read from: as much as the largest request may have."""

_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")
_HEADER = re.compile(r"([A-Za-z0-9-]+):[ \t]*([\x20-\x7e\t]*)")
_OURS = frozenset({"authorization", "content-length", "host", "transfer-encoding"})


def path_of(endpoint: str, organization: str) -> str:
    """
    Return the path that an endpoint means.

    Args:
        endpoint: `/v1/…`, or what comes after the organization's path, such as `clusters/prod`.
        organization: Put there, and in place of `{organization}`.
    Raises: RequestInvalid: it would lead elsewhere, or is no path.
    """
    root = f"/v1/organizations/{organization}/"
    path = endpoint.replace("{organization}", organization) if endpoint.startswith("/") else root + endpoint
    if path.startswith("//") or not _PATH.fullmatch(path):
        raise RequestInvalid(endpoint, "must be a path such as clusters or /v1/version; the relay is the context's")
    return path


def header_of(text: str) -> tuple[str, str]:
    """
    Read `NAME: VALUE`.

    Raises: RequestInvalid: it is none, or one that the command sets itself.
    """
    match = _HEADER.fullmatch(text)
    if match is None:
        raise RequestInvalid("a header", "must be NAME: VALUE")
    if match[1].lower() in _OURS:
        raise RequestInvalid(match[1], "is set by the command; the token is the context's")
    return match[1], match[2]


def fields_of(raw: Sequence[str], typed: Sequence[str], standard_input: TextIO) -> dict[str, Any]:
    """
    Read the fields of a body or a query.

    Args:
        raw: `KEY=VALUE`, each a string.
        typed: `KEY=VALUE`, where true, false, null and numbers mean themselves, and `@FILE` or `@-` is read.
        standard_input: What `@-` reads.
    Raises: RequestInvalid: one has no `=`, or its file cannot be read.
    """
    fields: dict[str, Any] = {}
    for text in raw:
        key, value = _split(text)
        _put(fields, key, value)
    for text in typed:
        key, value = _split(text)
        _put(fields, key, read_input(value[1:], standard_input) if value.startswith("@") else _typed(value))
    return fields


def read_input(name: str, standard_input: TextIO) -> str:
    """
    Return the text of a file, or of standard input for `-`.

    Raises: RequestInvalid: it cannot be read, is not UTF-8, or is too large.
    """
    try:
        if name == "-":
            text = standard_input.read(MAX_FIELD_BYTES + 1)
        else:
            with Path(name).open(encoding="utf-8") as stream:
                text = stream.read(MAX_FIELD_BYTES + 1)
    except UnicodeDecodeError:
        raise RequestInvalid(name, "is not UTF-8 text") from None
    except OSError as error:
        raise RequestInvalid(name, f"cannot be read: {error.strerror}") from error
    if len(text) > MAX_FIELD_BYTES:
        raise RequestInvalid(name, f"has more than {MAX_FIELD_BYTES:,} characters")
    return text


def query_of(fields: dict[str, Any]) -> dict[str, str]:
    """Return fields as a query has them. Raises: RequestInvalid: one is nested."""
    for key, value in fields.items():
        if isinstance(value, dict):
            raise RequestInvalid(key, "a query has no nested fields")
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in fields.items()}


def _split(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RequestInvalid("a field", "must be KEY=VALUE")
    return key, value


def _put(fields: dict[str, Any], key: str, value: Any) -> None:  # noqa: ANN401  (JSON)
    """Put `labels[team]` into the mapping `labels`; any other key stands for itself."""
    outer, bracket, rest = key.partition("[")
    if not bracket:
        fields[key] = value
        return
    inner = fields.setdefault(outer, {})
    if not rest.endswith("]") or not isinstance(inner, dict):
        raise RequestInvalid(key, "must be KEY or KEY[NAME]")
    inner[rest[:-1]] = value


def _typed(value: str) -> Any:  # noqa: ANN401  (JSON)
    if value in {"true", "false", "null"} or re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", value):
        return json.loads(value) if not re.fullmatch(r"-?0\d+.*", value) else value
    return value
