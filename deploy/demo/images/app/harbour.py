"""
Harbour, the demo's application: which ships lie at which berth, in PostgreSQL, and how many looked, in Redis.

It is an ordinary small web application and knows nothing of Fairlead: settings come from the environment, passwords
from mounted files; `/live` says that the process answers, `/ready` that the database has the schema this version needs.
Run `harbour.py serve` for the server and `harbour.py migrate` for the migration that must come before it.
"""
# ruff: noqa: INP001 - one file in an image, not part of a package

from __future__ import annotations

import contextlib
import html
import json
import os
import signal
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import cursor

VERSION = int(os.environ["HARBOUR_VERSION"])
TITLE = os.environ.get("HARBOUR_TITLE", "Harbour")
CREDENTIALS = Path("/etc/harbour/credentials")
CONNECT_SECONDS = 3
MIGRATE_SECONDS = 120.0
"""How long the migration waits for the database to come up: its volume may have to be made first."""

MIGRATIONS = (
    """
    CREATE TABLE ships (name text PRIMARY KEY, berth integer NOT NULL UNIQUE);
    INSERT INTO ships VALUES ('Albatross', 1), ('Cormorant', 2), ('Kittiwake', 4);
    """,
    """
    ALTER TABLE ships ADD COLUMN tonnage integer NOT NULL DEFAULT 0;
    UPDATE ships SET tonnage = 1000 * berth + 200;
    """,
)
"""Schema number N is made by the first N of them; each runs once, in a transaction with its number."""


@contextlib.contextmanager
def database() -> Iterator[cursor]:
    """Connect, and commit if the block succeeds."""
    connection = psycopg2.connect(
        host=os.environ["HARBOUR_DATABASE_HOST"],
        user="harbour",
        dbname="harbour",
        password=(CREDENTIALS / "postgresql-password").read_text(),
        connect_timeout=CONNECT_SECONDS,
    )
    try:
        with connection, connection.cursor() as session:
            yield session
    finally:
        connection.close()


def visits() -> redis.Redis[str]:
    """Return a client of the counter's server."""
    return redis.Redis(
        host=os.environ["HARBOUR_REDIS_HOST"],
        password=(CREDENTIALS / "redis-password").read_text(),
        socket_timeout=CONNECT_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        decode_responses=True,
    )


def migrate() -> None:
    """Bring the schema to this version; waits for the database, and does nothing where nothing is to be done."""
    deadline = time.monotonic() + MIGRATE_SECONDS
    while True:
        try:
            with database() as session:
                session.execute("SELECT pg_advisory_xact_lock(1)")
                session.execute("CREATE TABLE IF NOT EXISTS schema_version (number integer NOT NULL)")
                present = schema(session)
                for number in range(present, VERSION):
                    session.execute(MIGRATIONS[number])
                    session.execute("INSERT INTO schema_version VALUES (%s)", (number + 1,))
        except psycopg2.OperationalError as error:
            if time.monotonic() > deadline:
                raise
            print(f"waiting for the database: {error}".strip())  # noqa: T201 - a container's log is its output
            time.sleep(1)
        else:
            print(f"schema {present} is now {max(present, VERSION)}")  # noqa: T201 - a container's log is its output
            return


def schema(session: cursor) -> int:
    """Return the schema's number, 0 for an empty one."""
    session.execute("SELECT coalesce(max(number), 0) FROM schema_version")
    row = session.fetchone()
    return int(row[0]) if row else 0


def ships() -> list[dict[str, Any]]:
    """Return the ships in the order of their berths."""
    columns = ("name", "berth", "tonnage")[: VERSION + 1]
    with database() as session:
        session.execute(f"SELECT {', '.join(columns)} FROM ships ORDER BY berth")  # noqa: S608 - names from the line above
        return [dict(zip(columns, row, strict=True)) for row in session.fetchall()]


def unready() -> str | None:
    """Return what keeps this version from serving, or None."""
    try:
        with database() as session:
            present = schema(session)
    except psycopg2.Error as error:
        return f"database: {str(error).strip()}"
    if present < VERSION:
        return f"database: schema {present}, this version needs {VERSION}: did the migration run?"
    try:
        visits().ping()
    except redis.RedisError as error:
        return f"redis: {error}"
    return None


def page() -> str:
    """Render the front page."""
    rows = ships()
    head = "".join(f"<th>{name}</th>" for name in rows[0]) if rows else ""
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row.values()) + "</tr>" for row in rows
    )
    count = visits().incr("visits")
    return (
        f"<!doctype html><title>{html.escape(TITLE)}</title><link rel=stylesheet href=/static/style.css>"
        f"<h1>{html.escape(TITLE)}</h1><table><tr>{head}</tr>{body}</table>"
        f"<footer>harbour {VERSION}, seen {count} times</footer>\n"
    )


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    def do_GET(self) -> None:
        """Serve the front page, the list as JSON, and the probes."""
        try:
            if self.path == "/":
                self._answer(HTTPStatus.OK, page(), "text/html")
            elif self.path == "/api/ships":
                self._answer(HTTPStatus.OK, json.dumps(ships()), "application/json")
            elif self.path == "/live":
                self._answer(HTTPStatus.OK, "alive\n")
            elif self.path == "/ready":
                reason = unready()
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK, f"{reason or 'ready'}\n")
            else:
                self._answer(HTTPStatus.NOT_FOUND, "no such page\n")
        except (psycopg2.Error, redis.RedisError) as error:
            self._answer(HTTPStatus.BAD_GATEWAY, f"{error}\n")

    def _answer(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve() -> None:
    """Serve until SIGTERM."""
    server = ThreadingHTTPServer(("", 8080), Handler)
    # shutdown() waits for the loop that this very thread runs, so it has to be asked from another one.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()


if __name__ == "__main__":
    {"serve": serve, "migrate": migrate}[sys.argv[1]]()
