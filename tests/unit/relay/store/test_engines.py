"""URLs that are taken, and what drivers' errors mean."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from fairlead_relay.errors import StoreDamaged, StoreUnavailable, StoreUnusable
from fairlead_relay.store.engines import check_file, check_place, parse_url, reader_engine, translate, writer_engine


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:////var/lib/relay.db", "sqlite+pysqlite"),
        ("postgresql://relay@db/relay", "postgresql+psycopg"),
        ("postgresql+psycopg://relay@db/relay", "postgresql+psycopg"),
    ],
)
def test_a_url_gets_the_driver_that_is_used(url: str, driver: str) -> None:
    """Nobody needs to know drivers."""
    assert parse_url(url).drivername == driver


@pytest.mark.parametrize("url", ["nonsense", "mysql://root:hunter2@db/relay", "sqlite://", "sqlite:///:memory:"])
def test_any_other_url_is_refused_with_what_to_write(url: str) -> None:
    """And without repeating a password."""
    with pytest.raises(StoreUnusable, match="write sqlite:////path/to/file or postgresql://host/database") as refused:
        parse_url(url)
    assert "hunter2" not in str(refused.value)


def test_the_folder_of_a_file_must_exist(tmp_path: Path) -> None:
    """A typing error must not make an empty store elsewhere."""
    check_place(parse_url(f"sqlite:///{tmp_path}/relay.db"))
    check_place(parse_url("postgresql://db/relay"))
    with pytest.raises(StoreUnusable, match=r"the folder .*/absent does not exist; create it"):
        check_place(parse_url(f"sqlite:///{tmp_path}/absent/relay.db"))


def test_sqlite_is_durable_and_checks_its_keys(tmp_path: Path) -> None:
    """The settings on which promises to callers rest."""
    engine = writer_engine(parse_url(f"sqlite:///{tmp_path}/relay.db"))
    with engine.begin() as connection:
        values = [
            connection.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "query_only")
        ]
    engine.dispose()
    assert values == ["wal", 2, 1, 0]


def test_an_sqlite_reader_cannot_write(tmp_path: Path) -> None:
    """A read that writes is a defect."""
    url = parse_url(f"sqlite:///{tmp_path}/relay.db")
    engine = reader_engine(url, 1)
    with engine.connect() as connection, pytest.raises(SQLAlchemyError):
        connection.execute(text("CREATE TABLE t (a)"))
    engine.dispose()


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    """A write takes the lock at its start, so that it cannot fail half-way for want of it."""
    url = parse_url(f"sqlite:///{tmp_path}/relay.db")
    engine = writer_engine(url)
    other = writer_engine(url)
    with engine.begin():
        raw = other.raw_connection()
        raw.cursor().execute("PRAGMA busy_timeout = 0")
        raw.close()
        with pytest.raises(OperationalError) as locked, other.begin():
            pass
    assert str(translate(locked.value)) == "the store is not available: another process held the database for 5 s"
    engine.dispose()
    other.dispose()


def of_sqlite(words: str, code: int) -> sqlite3.DatabaseError:
    """Return an error as the driver makes it."""
    error = sqlite3.DatabaseError(words)
    error.sqlite_errorcode = code
    return error


def test_a_file_is_looked_through_for_damage(tmp_path: Path) -> None:
    """What no statement ever stored is found, though none fails."""
    url = parse_url(f"sqlite:///{tmp_path}/relay.db")
    engine = writer_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (a CHECK (a > 0))"))
        connection.execute(text("INSERT INTO t VALUES (1), (2)"))
        check_file(connection)
        connection.execute(text("PRAGMA ignore_check_constraints = ON"))
        connection.execute(text("UPDATE t SET a = 0"))
        connection.execute(text("PRAGMA ignore_check_constraints = OFF"))
        with pytest.raises(StoreDamaged, match="CHECK constraint failed in t"):
            check_file(connection)
    engine.dispose()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            OperationalError("SELECT", {}, Exception("disk I/O error\nmore")),
            StoreUnavailable,
            "the store is not available: disk I/O error",
        ),
        (
            DatabaseError("SELECT", {}, of_sqlite("database disk image is malformed", sqlite3.SQLITE_CORRUPT)),
            StoreDamaged,
            str(StoreDamaged("database disk image is malformed")),
        ),
        (
            DatabaseError("SELECT", {}, of_sqlite("corrupt index", sqlite3.SQLITE_CORRUPT | 3 << 8)),
            StoreDamaged,
            str(StoreDamaged("corrupt index")),
        ),
        (
            DatabaseError("SELECT", {}, of_sqlite("malformed JSON", sqlite3.SQLITE_ERROR)),
            StoreUnavailable,
            "the store is not available: malformed JSON",
        ),
        (
            DatabaseError("SELECT", {}, Exception("password authentication failed")),
            StoreUnusable,
            "the store cannot be used: password authentication failed",
        ),
        (PoolTimeoutError("QueuePool limit"), StoreUnavailable, "the store is not available: QueuePool limit"),
    ],
)
def test_a_drivers_error_becomes_one_sentence(error: SQLAlchemyError, kind: type[Exception], words: str) -> None:
    """Without the statement and its values."""
    translated = translate(error)
    assert (type(translated), str(translated)) == (kind, words)
