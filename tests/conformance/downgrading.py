"""A store taken back to an earlier revision of its schema, as only tests do."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from fairlead_relay.store import Store
from fairlead_relay.store.migrate import SCRIPTS


async def downgrade(store: Store, revision: str) -> None:
    """Take a store back to a revision."""

    def down(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        command.downgrade(config, revision)

    await store.write(down)
