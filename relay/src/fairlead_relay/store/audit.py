"""
The audit log: who did what, or tried to, one chain of records for each organization.

A record is written in the transaction of the change that it tells of, so that there is no change without its record and
no record of a change that was undone. Each holds the digest of its own content and of the digest before it: whoever
knows one digest can prove all that came before. The chain is made by the store's one writer at a time, so that numbers
have no gaps; on PostgreSQL the writer's advisory lock sees to it, see writer.py.

Records are kept for ever. Nothing here, nor anywhere else, changes or deletes one; tests hold it to that. Must not hold
a secret: what goes in is chosen field by field, and bounded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

from sqlalchemy import Connection, bindparam, insert, or_, select

from fairlead_relay.errors import AuditBroken
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.schema import audit_records
from fairlead_shared.canonical import canonical_json

FIRST_PREVIOUS: Final = "0" * 64
"""What stands for the digest before the first record's."""
LONGEST_TEXT: Final = 300
"""Letters of any one text: an id, a name, a target, a sentence."""
LARGEST_VALUE: Final = 4096
"""Bytes of `before` and of `after`; a larger one is named by its hash."""


class AuditOutcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It was allowed, and could not be done."""
    DENIED = "denied"
    """It was not allowed."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something, from where, and with which right."""

    kind: Literal["token", "agent", "command"]
    """An API token; the agent of a cluster; a command of the relay, run where its data directory is."""
    id: str
    """Of the token; the agent's cluster; the command."""
    name: str = ""
    """What people call the token; the agent; the user who ran the command."""
    role: str = ""
    """The token's role; empty for others, whose right is what they are."""
    address: str = ""
    """The client's, as this relay saw it; empty for commands."""
    request_id: str = ""
    """As in the relay's log."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be recorded."""

    organization: str
    actor: Actor
    verb: str
    """KIND.ACTION, such as `cluster.create`; `read` for a denied look at something. Never changes its meaning."""
    target: str
    """KIND/NAME, such as `environment/shop/staging`."""
    outcome: AuditOutcome = AuditOutcome.SUCCEEDED
    detail: str = ""
    """Why it failed or was denied."""
    before: Mapping[str, Any] | None = field(default=None, hash=False)
    """What the change replaced, as far as it matters; no secrets, no fractions."""
    after: Mapping[str, Any] | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class Trail:
    """Records the change that one request makes."""

    organization: str
    actor: Actor
    verb: str
    target: str
    """What the request names."""
    at: float
    """Seconds since the epoch."""

    def entry(
        self,
        target: str = "",
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Return what is to be recorded of the change: its target if the request did not name it, as KIND/NAME."""
        return Entry(self.organization, self.actor, self.verb, target or self.target, before=before, after=after)

    def note(
        self,
        connection: Connection,
        target: str = "",
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Record the change in the write that makes it; see `entry`."""
        append_records(connection, [self.entry(target, before=before, after=after)], self.at)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One record as stored."""

    organization: str
    number: int
    """1 for an organization's first, and one more for each."""
    at: float
    """Seconds since the epoch, by the clock of the relay that wrote it: the order is that of the numbers."""
    actor: Actor
    verb: str
    target: str
    outcome: AuditOutcome
    detail: str
    before: dict[str, Any] | None = field(hash=False)
    after: dict[str, Any] | None = field(hash=False)
    digest: str
    """SHA-256 in hex, of this record's content and the digest before it."""

    def digest_after(self, previous: str) -> str:
        """Return the digest that the record has behind a record with that digest."""
        actor = self.actor
        content = {
            "organization": self.organization,
            "number": self.number,
            "at": iso_time(self.at),
            "actor": {"kind": actor.kind, "id": actor.id, "name": actor.name, "role": actor.role},
            "address": actor.address,
            "request_id": actor.request_id,
            "verb": self.verb,
            "target": self.target,
            "outcome": str(self.outcome),
            "detail": self.detail,
            "before": self.before,
            "after": self.after,
            "previous": previous,
        }
        return hashlib.sha256(canonical_json(content)).hexdigest()


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records are wanted; None means any."""

    actor: str | None = None
    """Id or name."""
    verb: str | None = None
    outcome: AuditOutcome | None = None
    since: float | None = None
    """Seconds since the epoch."""


_COLUMNS: Final = (
    audit_records.c.organization, audit_records.c.number, audit_records.c.at, audit_records.c.actor_kind,
    audit_records.c.actor_id, audit_records.c.actor_name, audit_records.c.role, audit_records.c.address,
    audit_records.c.request_id, audit_records.c.verb, audit_records.c.target, audit_records.c.outcome,
    audit_records.c.detail, audit_records.c.before, audit_records.c.after, audit_records.c.digest,
)  # fmt: skip
_OF: Final = audit_records.c.organization == bindparam("of_organization")
_HEAD: Final = (
    select(audit_records.c.number, audit_records.c.digest).where(_OF).order_by(audit_records.c.number.desc()).limit(1)
)
_INSERT: Final = insert(audit_records)
_CHECKED: Final = (
    select(*_COLUMNS)
    .where(_OF, audit_records.c.number > bindparam("of_after"))
    .order_by(audit_records.c.number)
    .limit(bindparam("of_limit"))
)
_AT_ONCE: Final = 500
"""Records that are looked at together: about half a MiB."""


def append_records(connection: Connection, entries: Sequence[Entry], now: float) -> None:
    """
    Write records behind those that are there.

    Args:
        connection: In the write that makes the change, or in one of its own for an attempt that changed nothing.
        entries: In this order; their organizations exist.
        now: Seconds since the epoch.
    """
    _append(connection, [(entry, now) for entry in entries])


def append_copies(connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
    """Write copies of another chain's rows, with their times and with numbers and digests of this one."""
    _append(connection, [(_entry(record), record.at) for record in map(_record, rows)])


def _entry(record: AuditRecord) -> Entry:
    return Entry(
        record.organization,
        record.actor,
        record.verb,
        record.target,
        record.outcome,
        record.detail,
        record.before,
        record.after,
    )


def _append(connection: Connection, entries: Iterable[tuple[Entry, float]]) -> None:
    heads: dict[str, tuple[int, str]] = {}
    rows = []
    for entry, at in entries:
        head = heads.get(entry.organization) or chain_head(connection, entry.organization)
        row = _row_of(entry, at, *head)
        heads[entry.organization] = row["number"], row["digest"]
        rows.append(row)
    if rows:
        connection.execute(_INSERT, rows)


def chain_head(connection: Connection, organization: str) -> tuple[int, str]:
    """Return number and digest of an organization's last record; 0 and `FIRST_PREVIOUS` if it has none."""
    head = connection.execute(_HEAD, {"of_organization": organization}).one_or_none()
    return (0, FIRST_PREVIOUS) if head is None else (head.number, head.digest)


def list_records(
    connection: Connection, organization: str, wanted: AuditFilter, limit: int, before: int | None = None
) -> list[AuditRecord]:
    """Return at most `limit` records of an organization, newest first, those below the number `before`."""
    query = select(*_COLUMNS).where(audit_records.c.organization == organization)
    if wanted.actor is not None:
        query = query.where(or_(audit_records.c.actor_id == wanted.actor, audit_records.c.actor_name == wanted.actor))
    if wanted.verb is not None:
        query = query.where(audit_records.c.verb == wanted.verb)
    if wanted.outcome is not None:
        query = query.where(audit_records.c.outcome == str(wanted.outcome))
    if wanted.since is not None:
        query = query.where(audit_records.c.at >= wanted.since)
    if before is not None:
        query = query.where(audit_records.c.number < before)
    return [_record(row) for row in connection.execute(query.order_by(audit_records.c.number.desc()).limit(limit))]


def check_chain(connection: Connection, organization: str) -> tuple[int, str]:
    """
    Check that an organization's records are those that were written, all of them up to the last that is there.

    That the last one is there only somebody can tell who knows a later digest.

    Returns: Number and digest of the last one, as `chain_head`.
    Raises: AuditBroken: one was changed, left out, added or moved, and which.
    """
    number, digest = 0, FIRST_PREVIOUS
    while True:
        wanted = {"of_organization": organization, "of_after": number, "of_limit": _AT_ONCE}
        rows = connection.execute(_CHECKED, wanted).all()
        for record in map(_record, rows):
            if record.number != number + 1:
                raise AuditBroken(organization, number + 1, "it is missing")
            if record.digest_after(digest) != record.digest:
                raise AuditBroken(organization, record.number, "it, or the one before it, is not what was written")
            number, digest = record.number, record.digest
        if len(rows) < _AT_ONCE:
            return number, digest


def _row_of(entry: Entry, at: float, number: int, previous: str) -> dict[str, Any]:
    """Return the row behind the one with that number and digest."""
    actor = entry.actor
    before, before_text = _value(entry.before)
    after, after_text = _value(entry.after)
    record = AuditRecord(
        organization=entry.organization,
        number=number + 1,
        at=at,
        actor=Actor(
            actor.kind, _text(actor.id), _text(actor.name), actor.role, _text(actor.address), _text(actor.request_id)
        ),
        verb=entry.verb,
        target=_text(entry.target),
        outcome=entry.outcome,
        detail=_text(entry.detail),
        before=before,
        after=after,
        digest="",
    )
    return {
        "organization": record.organization,
        "number": record.number,
        "at": at,
        "actor_kind": record.actor.kind,
        "actor_id": record.actor.id,
        "actor_name": record.actor.name,
        "role": record.actor.role,
        "address": record.actor.address,
        "request_id": record.actor.request_id,
        "verb": record.verb,
        "target": record.target,
        "outcome": str(record.outcome),
        "detail": record.detail,
        "before": before_text,
        "after": after_text,
        "digest": record.digest_after(previous),
    }


def _record(row: Sequence[Any]) -> AuditRecord:
    organization, number, at, *who, verb, target, outcome, detail, before, after, digest = row
    return AuditRecord(
        organization,
        number,
        at,
        Actor(*who),
        verb,
        target,
        AuditOutcome(outcome),
        detail,
        None if before is None else json.loads(before),
        None if after is None else json.loads(after),
        digest,
    )


def _text(text: str) -> str:
    """Return a text that any database takes and any terminal shows: one line, bounded; clients choose some of it."""
    shown = text if text.isprintable() else "".join(letter if letter.isprintable() else "�" for letter in text)
    return shown if len(shown) <= LONGEST_TEXT else f"{shown[: LONGEST_TEXT - 1]}…"


def _value(value: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, str | None]:
    """Return what is kept of a value, and its text."""
    if value is None:
        return None, None
    content = canonical_json(value)
    if len(content) <= LARGEST_VALUE:
        return dict(value), content.decode()
    named = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return named, canonical_json(named).decode()
