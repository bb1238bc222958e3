"""Organizations: the tenants. Must not decide who may see them; tokens and access do."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from fairlead_relay.errors import NotFound
from fairlead_relay.store.schema import organizations


@dataclass(frozen=True, slots=True)
class Organization:
    """A tenant."""

    name: str
    created_at: float
    """Seconds since the epoch."""


def find_organization(connection: Connection, name: str) -> Organization:
    """
    Return an organization.

    Raises: NotFound: there is none of that name.
    """
    row = connection.execute(
        select(organizations.c.name, organizations.c.created_at).where(organizations.c.name == name)
    ).one_or_none()
    if row is None:
        raise NotFound("organization", name)
    return Organization(*row)


def ensure_organization(connection: Connection, name: str, now: float) -> Organization:
    """
    Return an organization; create it if there is none of that name.

    Args:
        connection: In a write.
        name: Checked by `check_name`.
        now: Seconds since the epoch.
    """
    try:
        return find_organization(connection, name)
    except NotFound:
        connection.execute(insert(organizations).values(name=name, created_at=now))
        return Organization(name, now)
