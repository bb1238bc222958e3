"""API tokens."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from fairlead_relay.errors import NotFound
from fairlead_relay.store import Store
from fairlead_relay.store.organizations import ensure_organization
from fairlead_relay.store.tokens import (
    ApiToken,
    Role,
    create_token,
    delete_token,
    find_token,
    list_tokens,
    touch_token,
)
from tests.conformance.domain import APPLICATION, ORGANIZATION, START


async def test_an_api_token_is_found_as_it_was_made(store: Store) -> None:
    """Its hash, role and expiry are what access is decided by."""
    token = ApiToken("id", ORGANIZATION, Role.DEPLOYER, "hash", START, START + 60)
    await store.write(lambda c: create_token(c, token))
    assert await store.read(lambda c: find_token(c, "id")) == token
    assert await store.read(lambda c: find_token(c, "other")) is None
    with pytest.raises(NotFound):
        await store.write(lambda c: create_token(c, ApiToken("id2", "globex", Role.ADMIN, "hash", START, None)))


async def test_the_use_of_a_token_is_noted_once_a_minute(store: Store) -> None:
    """A busy token must not turn every read into a write."""
    await store.write(lambda c: create_token(c, ApiToken("id", ORGANIZATION, Role.VIEWER, "hash", START, None)))
    for at in (START, START + 59, START + 61):
        await store.write(lambda c, now=at: touch_token(c, "id", now))
        used = await store.read(lambda c: c.scalar(text("SELECT last_used_at FROM api_tokens")))
        assert used == (START if at < START + 60 else at)


def _token(token_id: str, **further: Any) -> ApiToken:  # noqa: ANN401  (fields of a token)
    return ApiToken(token_id, further.pop("organization", ORGANIZATION), Role.VIEWER, "hash", START, None, **further)


async def test_a_token_for_one_application_needs_it(store: Store) -> None:
    """It would be good for nothing, and for all once somebody takes the name."""
    token = _token("id", name="CI", application=APPLICATION)
    await store.write(lambda c: create_token(c, token))
    assert await store.read(lambda c: find_token(c, "id")) == token
    with pytest.raises(NotFound, match="no application is named 'bookshop'"):
        await store.write(lambda c: create_token(c, _token("other", application="bookshop")))


async def test_the_tokens_of_an_organization_are_listed_and_revoked_in_it_alone(store: Store) -> None:
    """Another one's are neither shown nor taken."""
    await store.write(lambda c: ensure_organization(c, "globex", START))
    for token in (_token("c"), _token("a"), _token("b"), _token("d", organization="globex")):
        await store.write(lambda c, made=token: create_token(c, made))
    assert [token.id for token in await store.read(lambda c: list_tokens(c, ORGANIZATION, 2))] == ["a", "b"]
    assert [token.id for token in await store.read(lambda c: list_tokens(c, ORGANIZATION, 9, "b"))] == ["c"]
    with pytest.raises(NotFound, match="no token is named 'd'"):
        await store.write(lambda c: delete_token(c, ORGANIZATION, "d"))
    await store.write(lambda c: delete_token(c, "globex", "d"))
    assert await store.read(lambda c: find_token(c, "d")) is None
