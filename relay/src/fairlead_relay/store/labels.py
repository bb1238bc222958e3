"""
Labels of clusters, applications and environments, in a table of their own: nothing that deploys has to read them.

Each change raises a revision, by which two people who change the same thing notice each other. Whoever creates a thing
says its labels, none too: those of an earlier one of the same name are then gone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update

from fairlead_relay.errors import Outdated
from fairlead_relay.store.label_selectors import Selector, check_labels
from fairlead_relay.store.schema import labels

Row = TypeVar("Row")

_SCANNED: Final = 500
"""Rows that are looked at together while a selector is searched for."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What has labels."""

    organization: str
    kind: Literal["cluster", "application", "environment"]
    name: str = ""
    application: str = ""
    """Of an environment; empty for what has none."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one thing."""

    values: Mapping[str, str]
    revision: int
    """Raised by each change; 0 for a thing that never had any."""


NO_LABELS: Final = Labels({}, 0)


def read_labels(connection: Connection, of: Labelled, names: Sequence[str]) -> dict[str, Labels]:
    """
    Return the labels of things of one kind, by name; those that have none are missing.

    Args:
        connection: In a read or write.
        of: Organization, kind and application; its name does not matter.
        names: Of the things.
    """
    rows = connection.execute(
        select(labels.c.name, labels.c.labels, labels.c.revision).where(_among(of), labels.c.name.in_(names))
    )
    return {row.name: Labels(json.loads(row.labels), row.revision) for row in rows}


def find_labels(connection: Connection, of: Labelled) -> Labels:
    """Return the labels of one thing."""
    return read_labels(connection, of, [of.name]).get(of.name, NO_LABELS)


def start_labels(connection: Connection, of: Labelled, values: Mapping[str, str]) -> Labels:
    """
    Give a new thing its labels.

    Raises: NameInvalid: they break the rules.
    """
    check_labels(values)
    return _write(connection, of, values, find_labels(connection, of).revision)


def change_labels(
    connection: Connection, of: Labelled, changes: Mapping[str, str | None], revisions: frozenset[int] | None
) -> Labels:
    """
    Change some labels of a thing that exists.

    Args:
        connection: In a write.
        of: Whose.
        changes: Key → new value; None takes the label away. Other labels stay.
        revisions: Those that the caller has seen, one of which must be the present one; None for any.
    Returns: All of them, after the change.
    Raises: Outdated: somebody else changed them. NameInvalid: they break the rules.
    """
    known = find_labels(connection, of)
    if revisions is not None and known.revision not in revisions:
        raise Outdated(of.kind, of.name)
    values = {key: value for key, value in {**known.values, **changes}.items() if value is not None}
    check_labels(values)
    return _write(connection, of, values, known.revision)


def select_labelled(
    connection: Connection,
    of: Labelled,
    selector: Selector | None,
    limit: int,
    after: str | None,
    fetch: Callable[[int, str | None], Sequence[Row]],
    name_of: Callable[[Row], str],
) -> list[tuple[Row, Labels]]:
    """
    Return a page of things whose labels fulfil a selector, each with its labels.

    Args:
        connection: In a read.
        of: Organization, kind and application.
        selector: None for all of them.
        limit: At most so many.
        after: Those after this name; None from the start.
        fetch: Given a number and a name, returns at most so many things after it, by name.
        name_of: Names a thing.
    """
    found: list[tuple[Row, Labels]] = []
    at_once = limit if selector is None else _SCANNED
    while True:
        rows = fetch(at_once, after)
        labelled = read_labels(connection, of, [name_of(row) for row in rows])
        for row in rows:
            its = labelled.get(name_of(row), NO_LABELS)
            if selector is None or selector.matches(its.values):
                found.append((row, its))
        if len(found) >= limit or len(rows) < at_once:
            return found[:limit]
        after = name_of(rows[-1])


def _write(connection: Connection, of: Labelled, values: Mapping[str, str], revision: int) -> Labels:
    """Store labels, if the revision is still the one that was read: within one write it is."""
    made = Labels(dict(sorted(values.items())), revision + 1)
    told = {"labels": json.dumps(made.values, ensure_ascii=False), "revision": made.revision}
    changed = update(labels).where(_among(of), labels.c.name == of.name, labels.c.revision == revision).values(**told)
    if connection.execute(changed).rowcount == 0:
        connection.execute(
            insert(labels).values(
                organization=of.organization, kind=of.kind, application=of.application, name=of.name, **told
            )
        )
    return made


def _among(of: Labelled) -> ColumnElement[bool]:
    return and_(
        labels.c.organization == of.organization, labels.c.kind == of.kind, labels.c.application == of.application
    )
