"""API tokens."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from fairlead_relay.errors import NotFound
from fairlead_relay.store import Store
from fairlead_relay.store.tokens import ApiToken, Role, create_token, find_token, touch_token
from tests.conformance.domain import ORGANIZATION, START


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
