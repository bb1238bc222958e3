"""
Migrations: bring a database to this relay's schema, in the writer's transaction.

Revisions are named `vNNNN_pre_...` or `vNNNN_post_...`: a pre revision only adds, so that relays that do not know it
still work, beside newer ones and after a rollback; a post revision removes what no running relay uses any more, and
relays that do not know it refuse the store. An older relay cannot look into revisions that it lacks, so the newest one
leaves word in the store (`usable_from`). Must not run while another relay migrates: the caller holds the lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection

from fairlead_relay.errors import StoreUnusable
from fairlead_relay.store.meta import note_usable_from as note
from fairlead_relay.store.meta import noted_usable_from

SCRIPTS: Final = Path(__file__).parent / "migrations"
_ONE_AT_A_TIME: Final = threading.Lock()
"""Alembic keeps what it works on in module-level proxies: two databases in one process must take turns."""


def schema_of(connection: Connection) -> str | None:
    """Return the revision that a database is at; None for one without tables of a relay."""
    return MigrationContext.configure(connection).get_current_revision()


def newest_schema() -> str | None:
    """Return the revision that this relay works with."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def usable_from(names: Iterable[str]) -> str:
    """
    Return the revision that a relay must know to use a store: the newest that removed something, else the first.

    Args:
        names: Of all revisions' files, oldest first, without their suffix.
    """
    first, *others = names
    removing = [name for name in others if "_post_" in name]
    return [first, *removing][-1].partition("_")[0]


def can_use(connection: Connection) -> bool:
    """Tell whether this relay can work with a database: it knows its schema, or a newer relay only added to that."""
    known, present = _known(), MigrationContext.configure(connection).get_current_heads()
    return known.issuperset(present) or noted_usable_from(connection) in known


def note_usable_from(connection: Connection) -> None:
    """Leave word for relays that do not know this relay's schema; not in a store that a newer one migrated."""
    if schema_of(connection) == newest_schema():
        note(connection, usable_from(path.stem for path in sorted((SCRIPTS / "versions").glob("v*.py"))))


def knows_schema(revision: str) -> bool:
    """Tell whether this relay can bring a database up to date from a revision."""
    return revision in _known()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


def _known() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def migrate(connection: Connection, target: str = "head") -> None:
    """
    Run the migrations that the database lacks; none, if it is up to date or of a newer relay that only added to it.

    Args:
        connection: In a transaction that excludes every other writer.
        target: Revision to stop at.
    Raises: StoreUnusable: a newer relay removed from the database what this one needs.
    """
    config = _config()
    config.attributes["connection"] = connection
    present = MigrationContext.configure(connection).get_current_heads()
    if not _known().issuperset(present):
        if can_use(connection):
            return
        raise StoreUnusable(
            f"its schema {', '.join(present)} is of a newer relay; run that version, or restore an older backup"
        )
    try:
        with _ONE_AT_A_TIME:
            command.upgrade(config, target)
    except CommandError as error:
        raise StoreUnusable(f"its schema cannot be brought up to date: {error}") from error
