"""Tokens by the real API: a secret once, a name, and gone when revoked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.conftest import Tenant


def make(tenant: Tenant, **further: Any) -> dict[str, Any]:  # noqa: ANN401  (JSON)
    """Create a token as the administrator."""
    wanted = {"name": "CI", "role": "deployer", **further}
    made: dict[str, Any] = tenant.admin.ask("POST", f"{tenant.path}/tokens", wanted, 201)
    return made


def listed(tenant: Tenant) -> dict[str, dict[str, Any]]:
    """List the tokens, by id."""
    return {shown["id"]: shown for shown in tenant.admin.ask("GET", f"{tenant.path}/tokens")["items"]}


def test_a_token_works_until_it_is_revoked(tenant: Tenant) -> None:
    """Its secret is in the first answer alone, and what it did last is to be seen."""
    made = make(tenant)
    client = tenant.relay.client(made.pop("token"))
    assert listed(tenant)[made["id"]] == made
    assert client.ask("GET", "/v1/whoami")["name"] == "CI"
    shown = listed(tenant)[made["id"]]
    assert shown["last_used_at"] is not None
    assert "token" not in shown
    tenant.admin.ask("DELETE", f"{tenant.path}/tokens/{made['id']}", expect=204)
    client.ask("GET", "/v1/whoami", expect=401)
    tenant.admin.ask("DELETE", f"{tenant.path}/tokens/{made['id']}", expect=404)


def test_a_token_lives_as_long_as_was_asked_for(tenant: Tenant) -> None:
    """By default not for ever."""
    assert make(tenant)["expires_at"] is not None
    assert make(tenant, expires_seconds=None)["expires_at"] is None


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"role": "king"}, 422),
        ({"name": ""}, 422),
        ({"expires_seconds": 1}, 422),
        ({"application": "bookshop"}, 404),
        ({"application": "Not Valid"}, 422),
        ({"organization": "another"}, 422),
    ],
)
def test_a_token_that_cannot_be_is_refused(tenant: Tenant, changed: dict[str, object], status: int) -> None:
    """And the field or name is told."""
    wanted = {"name": "CI", "role": "deployer", **changed}
    tenant.admin.ask("POST", f"{tenant.path}/tokens", wanted, status)


def test_a_token_of_another_organization_cannot_be_revoked(tenant: Tenant) -> None:
    """Nor is it told that it exists."""
    stranger = tenant.relay.token("admin", "strangers")
    tenant.admin.ask("DELETE", f"{tenant.path}/tokens/{stranger.split('_')[1]}", expect=404)
    tenant.relay.client(stranger).ask("GET", "/v1/whoami")
