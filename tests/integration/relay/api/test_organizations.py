"""Organizations in the real API: a caller sees its own."""

from __future__ import annotations

from tests.integration.conftest import Tenant


def test_a_caller_sees_its_own_organization_and_no_other(tenant: Tenant) -> None:
    """A client can find out where it is; the fixture's other tenants are not told of."""
    (shown,) = tenant.viewer.ask("GET", "/v1/organizations")["items"]
    assert shown == tenant.viewer.ask("GET", tenant.path)
    assert shown["name"] == tenant.organization
    assert tenant.viewer.ask("GET", f"/v1/organizations?cursor={tenant.organization}")["items"] == []
