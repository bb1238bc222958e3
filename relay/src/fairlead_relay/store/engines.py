"""
Connections to SQLite and PostgreSQL, set up so that an acknowledged commit is durable and nothing waits for ever.

Must not run statements of the relay. URLs may hold a password: no error here repeats one.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from fairlead_relay.errors import StoreDamaged, StoreError, StoreUnavailable, StoreUnusable

_BUSY_SECONDS: Final = 5.0
"""How long a write waits for another process, e.g. `fairlead-relay token create` beside a running relay."""
_POSTGRESQL_OPTIONS: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "options": "-c lock_timeout=10s -c statement_timeout=30s -c idle_in_transaction_session_timeout=60s"
    " -c synchronous_commit=on -c timezone=UTC",
}
_UNUSABLE: Final = (
    "unable to open",
    "readonly",
    "authentication failed",
    "does not exist",
)
"""Words of drivers for what waiting does not mend."""
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY_CODE: Final = 0xFF
"""SQLite's extended codes hold the primary one in their lowest byte."""


def parse_url(url: str) -> URL:
    """
    Return the URL of a database, with the driver that is used.

    Raises: StoreUnusable: it is no URL, or one of another database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreUnusable(
            "its URL cannot be read; write sqlite:////path/to/file or postgresql://host/database"
        ) from None
    kind = parsed.get_backend_name()
    if kind == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite+pysqlite")
    if kind in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise StoreUnusable(
        f"'{kind}' is not a database it knows; write sqlite:////path/to/file or postgresql://host/database"
    )


def writer_engine(url: URL) -> Engine:
    """Return an engine with one connection, whose transactions are serialised with every other writer's."""
    return _engine(url, size=1, read_only=False)


def reader_engine(url: URL, size: int) -> Engine:
    """Return an engine whose transactions see one snapshot and write nothing."""
    return _engine(url, size, read_only=True)


def blob_engine(url: URL) -> Engine:
    """Return an engine for content: a few transfers at once, each in transactions of its own."""
    if not is_shared(url):
        raise StoreUnusable(
            "bundles belong in a folder, a bucket or a PostgreSQL; write file:///folder, s3://bucket or"
            " postgresql://host/database"
        )
    return _engine(url, size=4, read_only=False)


def is_shared(url: URL) -> bool:
    """Tell whether several relays may work on a database; an SQLite file belongs to one."""
    return url.get_backend_name() == "postgresql"


def listener_arguments(url: URL) -> dict[str, Any]:
    """Return how psycopg is to connect to PostgreSQL for a connection that only listens."""
    positional, named = url.get_dialect()().create_connect_args(url)
    if positional:
        raise RuntimeError("SQLAlchemy's psycopg dialect gives keyword arguments")
    return {**_POSTGRESQL_OPTIONS, **named, "autocommit": True}


def _engine(url: URL, size: int, *, read_only: bool) -> Engine:
    sqlite = url.get_backend_name() == "sqlite"
    snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    try:
        engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=size,
            max_overflow=0,
            pool_timeout=_BUSY_SECONDS,
            pool_pre_ping=not sqlite,
            hide_parameters=True,
            connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False} if sqlite else _POSTGRESQL_OPTIONS,
            execution_options=snapshot if read_only and not sqlite else {},
        )
    except (NoSuchModuleError, ModuleNotFoundError):
        raise StoreUnusable("PostgreSQL needs its driver: install fairlead-relay[postgresql]") from None
    if sqlite:
        _prepare_sqlite(engine, read_only=read_only)
    return engine


def _prepare_sqlite(engine: Engine, *, read_only: bool) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _: Any) -> None:  # noqa: ANN401  (SQLAlchemy's pool record)
        # The driver would begin transactions by itself, too late and without a choice of the lock.
        connection.isolation_level = None
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",  # a commit is acknowledged only when it is on the disk
            "foreign_keys = ON",
            "temp_store = MEMORY",
            f"query_only = {'ON' if read_only else 'OFF'}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        run_bare(connection, "BEGIN" if read_only else "BEGIN IMMEDIATE")


def run_bare(connection: Connection, statement: str) -> None:
    """
    Run a statement without parameters and without an answer.

    On SQLite past SQLAlchemy, which takes longer for one than SQLite does; each transaction has two or more.

    Raises: DBAPIError: as SQLAlchemy raises it.
    """
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        connection.exec_driver_sql(statement)
        return
    try:
        driver.execute(statement)
    except sqlite3.Error as error:
        raise OperationalError(statement, None, error) from error


def check_place(url: URL) -> None:
    """
    Check that the folder of an SQLite file is there.

    Raises: StoreUnusable: it is not.
    """
    if url.get_backend_name() == "sqlite" and url.database is not None:
        folder = Path(url.database).absolute().parent
        if not folder.is_dir():
            raise StoreUnusable(f"the folder {folder} does not exist; create it")


def check_file(connection: Connection) -> None:
    """
    Look through an SQLite file for damage, some seconds for each GiB; a server looks after its own.

    Raises: StoreDamaged: it is not as SQLite wrote it.
    """
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        if broken != "ok":
            raise StoreDamaged(" ".join(str(broken).split()))


def translate(error: SQLAlchemyError) -> StoreError:
    """Return what a driver's error means for the relay, in one sentence."""
    words = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()
    sentence = words[0] if words else type(error).__name__
    cause = error.orig if isinstance(error, DBAPIError) else None
    # Not by its words: a value may be malformed, too. The driver's own misuse has no code.
    if isinstance(cause, sqlite3.Error) and getattr(cause, "sqlite_errorcode", 0) & _PRIMARY_CODE in _DAMAGED:
        return StoreDamaged(sentence)
    if isinstance(error, DBAPIError) and any(word in sentence.lower() for word in _UNUSABLE):
        return StoreUnusable(sentence)
    if isinstance(error, OperationalError) and "locked" in sentence:
        return StoreUnavailable(f"another process held the database for {_BUSY_SECONDS:.0f} s")
    return StoreUnavailable(sentence)
