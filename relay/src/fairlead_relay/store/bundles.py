"""Bundles: which content an organization has stored. The bytes are in the blob port (blobs.py), once for all."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from fairlead_relay.store.schema import bundles


@dataclass(frozen=True, slots=True)
class Bundle:
    """An organization's right to content it has stored."""

    organization: str
    sha256: str
    """Lower-case hex of the raw bytes."""
    size_bytes: int
    """Of the raw bytes."""
    created_at: float
    """Seconds since the epoch."""


_COLUMNS = (bundles.c.organization, bundles.c.sha256, bundles.c.size_bytes, bundles.c.created_at)


def find_bundle(connection: Connection, organization: str, sha256: str) -> Bundle | None:
    """Return a bundle; None when this organization never stored it, whoever else did."""
    row = connection.execute(
        select(*_COLUMNS).where(bundles.c.organization == organization, bundles.c.sha256 == sha256)
    ).one_or_none()
    return None if row is None else Bundle(*row)


def add_bundle(connection: Connection, bundle: Bundle) -> bool:
    """
    Note that an organization stored content, after the blob port has it.

    Returns: True when it is new, False when it was known.
    """
    if find_bundle(connection, bundle.organization, bundle.sha256) is not None:
        return False
    connection.execute(
        insert(bundles).values(
            organization=bundle.organization,
            sha256=bundle.sha256,
            size_bytes=bundle.size_bytes,
            created_at=bundle.created_at,
        )
    )
    return True
