"""
Labels in requests and answers, and the ETags by which people who change the same thing notice each other.

Source: RFC 9110 §13.1.1 (If-Match), RFC 6585 §3 (428), RFC 7396 for the form of a change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Header, Query, Response
from pydantic import ConfigDict, Field
from sqlalchemy import Connection

from fairlead_relay.api.bodies import Asked
from fairlead_relay.api.problems import ApiCode, Problem
from fairlead_relay.store.audit import Trail
from fairlead_relay.store.label_selectors import MOST_LABELS, Selector
from fairlead_relay.store.labels import Labelled, Labels, change_labels, find_labels

_TAG: Final = re.compile(r'\s*"([0-9]{1,18})"\s*')
_LONGEST_SELECTOR: Final = 1000

LabelValues = Annotated[dict[str, str], Field(max_length=MOST_LABELS, examples=[{"team": "harbour", "tier": "gold"}])]
"""By Kubernetes' rules for labels."""
SelectorText = Annotated[
    str | None,
    Query(
        max_length=_LONGEST_SELECTOR,
        description="Labels, as for `kubectl -l`: `key=value,key!=value,key,!key,key in (a,b),key notin (a,b)`.",
    ),
]
IfMatch = Annotated[
    str | None,
    Header(description="The `ETag` of what was read, so that no change is lost; `*` for whatever it is."),
]
TAGGED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"headers": {"ETag": {"description": "For `If-Match` of a change.", "schema": {"type": "string"}}}}
}
"""What an answer with an ETag has, for the document."""


class LabelsChange(Asked):
    """A change of some labels; the others stay."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"labels": {"team": "harbour", "tier": None}}]})

    labels: Annotated[dict[str, str | None], Field(max_length=2 * MOST_LABELS)]
    """Key → new value; null takes the label away."""


def selector_of(text: str | None) -> Selector | None:
    """Read a selector; None or a blank one selects everything. Raises: NameInvalid: it is none."""
    return Selector.parse(text) if text is not None and text.strip() else None


def change_noted(
    trail: Trail,
    connection: Connection,
    of: Labelled,
    changes: Mapping[str, str | None],
    revisions: frozenset[int] | None,
) -> Labels:
    """Change labels as `change_labels` does, and record it."""
    before = find_labels(connection, of)
    changed = change_labels(connection, of, changes, revisions)
    trail.note(connection, before={"labels": before.values}, after={"labels": changed.values})
    return changed


def tag(response: Response, labels: Labels) -> None:
    """Give an answer the ETag of what it shows."""
    response.headers["ETag"] = f'"{labels.revision}"'


def revisions_of(if_match: str | None) -> frozenset[int] | None:
    """
    Read an If-Match header.

    Returns: The revisions that it names, none of those that no relay made; None for any.
    Raises: Problem: there is no such header: a change must say what it is a change of.
    """
    if if_match is None:
        detail = "send If-Match with the ETag of what you read, or * to change it whatever it is"
        raise Problem(HTTPStatus.PRECONDITION_REQUIRED, ApiCode.PRECONDITION_REQUIRED, detail, field="if-match")
    if if_match.strip() == "*":
        return None
    found = (_TAG.fullmatch(part) for part in if_match.split(","))
    return frozenset(int(match[1]) for match in found if match)
