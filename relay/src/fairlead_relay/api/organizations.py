"""Routes of organizations: what the caller may see of them, which is its own one."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import Connection

from fairlead_relay.api.access import CallerOf, needs
from fairlead_relay.api.bodies import Shown
from fairlead_relay.api.clusters import OrganizationPath
from fairlead_relay.api.paging import DEFAULT_LIMIT, Cursor, Limit, Page, page
from fairlead_relay.api.services import ServicesOf
from fairlead_relay.store.organizations import Organization, find_organization
from fairlead_relay.store.outbox import iso_time
from fairlead_relay.store.tokens import Role

router = APIRouter(prefix="/v1/organizations", tags=["organizations"])


class OrganizationShown(Shown):
    """A tenant."""

    name: str
    created_at: str


@router.get("")
@needs(Role.VIEWER, narrows=True)
async def index(
    services: ServicesOf, caller: CallerOf, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[OrganizationShown]:
    """List the organizations that the caller may see, by name."""

    def read(connection: Connection) -> list[Organization]:
        return [find_organization(connection, caller.organization)]

    rows = [row for row in await services.store.read(read) if cursor is None or row.name > cursor]
    return page(rows, limit, _show, lambda row: row.name)


@router.get("/{organization}")
@needs(Role.VIEWER, narrows=True)
async def show(organization: OrganizationPath, services: ServicesOf) -> OrganizationShown:
    """Show the caller's organization."""
    return _show(await services.store.read(lambda connection: find_organization(connection, organization)))


def _show(organization: Organization) -> OrganizationShown:
    return OrganizationShown(name=organization.name, created_at=iso_time(organization.created_at))
