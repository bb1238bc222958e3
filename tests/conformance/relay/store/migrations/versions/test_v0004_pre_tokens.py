"""Tokens of before this revision stay what they were; those for one application do not outlive its end."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from fairlead_relay.store import Store
from fairlead_relay.store.migrate import SCRIPTS, migrate
from fairlead_relay.store.tokens import ApiToken, Role, create_token, find_token
from tests.conformance.domain import APPLICATION, ORGANIZATION, START


async def test_it_comes_and_goes_without_widening_a_token(store: Store) -> None:
    """One for a single application would be for all of them."""
    plain = ApiToken("plain", ORGANIZATION, Role.ADMIN, "hash", START, None)
    narrow = ApiToken("narrow", ORGANIZATION, Role.ADMIN, "hash", START, None, application=APPLICATION)
    for token in (plain, narrow):
        await store.write(lambda c, made=token: create_token(c, made))

    def down(connection: Connection) -> list[str]:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        command.downgrade(config, "v0003")
        return list(connection.scalars(text("SELECT id FROM api_tokens")))

    assert await store.write(down) == ["plain"]
    await store.write(migrate)
    assert await store.read(lambda c: find_token(c, "plain")) == plain
