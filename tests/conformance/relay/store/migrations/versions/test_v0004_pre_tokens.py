"""Tokens of before this revision stay what they were; those for one application do not outlive its end."""

from __future__ import annotations

from sqlalchemy import text

from fairlead_relay.store import Store
from fairlead_relay.store.migrate import migrate
from fairlead_relay.store.tokens import ApiToken, Role, create_token, find_token
from tests.conformance.domain import APPLICATION, ORGANIZATION, START
from tests.conformance.downgrading import downgrade


async def test_it_comes_and_goes_without_widening_a_token(store: Store) -> None:
    """One for a single application would be for all of them."""
    plain = ApiToken("plain", ORGANIZATION, Role.ADMIN, "hash", START, None)
    narrow = ApiToken("narrow", ORGANIZATION, Role.ADMIN, "hash", START, None, application=APPLICATION)
    for token in (plain, narrow):
        await store.write(lambda c, made=token: create_token(c, made))

    await downgrade(store, "v0003")
    assert await store.write(lambda c: list(c.scalars(text("SELECT id FROM api_tokens")))) == ["plain"]
    await store.write(migrate)
    assert await store.read(lambda c: find_token(c, "plain")) == plain
