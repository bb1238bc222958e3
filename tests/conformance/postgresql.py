"""
A real PostgreSQL server for tests: Debian's, in a folder of its own, reachable by a Unix socket, else only where asked.

It ends with the process that started it, also when that is killed. Must not touch a server that the machine runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.cluster.debian import ensure_packages
from tests.polling import PATIENCE_SECONDS, wait_until
from tests.ports import HeldPort

BINARIES = Path("/usr/lib/postgresql/15/bin")
"""Debian 12's."""
OWNER = "postgres"
"""The server refuses to run as root; the package makes this user."""


class PostgresqlServer:
    """
    A server.

    Args:
        folder: Holds its socket, its log, and its content in `content`.
        syncs: Whether a commit waits for the disk.
        address: Address where it also takes TCP connections, with its password; empty for none.
    """

    def __init__(self, folder: Path, *, syncs: bool = False, address: str = "") -> None:
        self._folder = folder
        self._syncs = syncs
        self._address = address
        self.port = HeldPort(address).number if address else 5432
        """Its TCP port."""
        self._made = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            process = self._process = subprocess.Popen(
                # SIGINT is PostgreSQL's fast shutdown; the kernel sends it when this process is gone.
                [
                    *_as_owner("--pdeathsig", "INT"), BINARIES / "postgres", "-D", self._folder / "content",
                    "-k", self._folder, "-c", f"listen_addresses={self._address}", "-c", f"port={self.port}",
                    "-c", "max_connections=200",
                    "-c", f"fsync={'on' if self._syncs else 'off'}",
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )  # fmt: skip
        wait_until(lambda: process.poll() is not None or self.answers(), "PostgreSQL to answer")
        if process.poll() is not None:
            raise RuntimeError(f"PostgreSQL did not start: {(self._folder / 'log').read_text()[-500:]}")

    def crash(self) -> None:
        """End it at once, without a checkpoint: what was committed is recovered by the next start. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait(PATIENCE_SECONDS)

    def url(self, database: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://{OWNER}@/{database}?host={self._folder}&port={self.port}"

    def make_remote_database(self, password: str) -> str:
        """Make a database, and return its URL for those who dial the server's address with a password, set here."""
        local = self.make_database()
        with psycopg.connect(local, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(OWNER), sql.Literal(password))
            )
        return f"postgresql://{OWNER}:{password}@{self._address}:{self.port}/{conninfo_to_dict(local)['dbname']}"

    def make_database(self, template: str | None = None) -> str:
        """Make a database, empty or a copy of the one with the URL `template`, and return its URL."""
        self._made += 1
        name = f"test_{os.getpid()}_{self._made}"
        origin = "" if template is None else f" TEMPLATE {conninfo_to_dict(template)['dbname']}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}{origin}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database that a test is done with, though it left connections: a run makes hundreds."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {conninfo_to_dict(url)['dbname']} WITH (FORCE)")

    def answers(self) -> bool:
        """Tell whether it takes connections."""
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def running_postgresql(*, syncs: bool = False, address: str = "") -> Iterator[PostgresqlServer]:
    """
    Start a server and end it on leaving.

    Args:
        syncs: Whether a commit waits for the disk. Tests do without: a crash of the machine is not what they test.
        address: Address of this machine where it also takes TCP connections, with a password; empty for none.
    """
    if not (BINARIES / "postgres").is_file():
        ensure_packages(["postgresql-15"])
    folder = Path(tempfile.mkdtemp(prefix="fairlead-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, OWNER)
        subprocess.run(
            [
                *_as_owner(), BINARIES / "initdb", "-D", folder / "content", "-A", "trust", "-U", OWNER, "-E", "UTF8",
                "--no-locale",
            ],
            check=True,
            capture_output=True,
            timeout=60,
            cwd=folder,
        )  # fmt: skip
        with (folder / "content" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all scram-sha-256\n")
        server = PostgresqlServer(folder, syncs=syncs, address=address)
        try:
            server.start()
            yield server
        finally:
            server.crash()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_owner(*options: str) -> list[str]:
    """Return the words before a command that must not run as root."""
    identity = ["--reuid", OWNER, "--regid", OWNER, "--init-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *identity, *options]
