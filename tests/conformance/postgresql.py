"""
A real PostgreSQL server for tests: Debian's, in a folder of its own, reachable by a Unix socket only.

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
from psycopg.conninfo import conninfo_to_dict

from tests.cluster.debian import ensure_packages
from tests.polling import wait_until

BINARIES = Path("/usr/lib/postgresql/15/bin")
"""Debian 12's."""
OWNER = "postgres"
"""The server refuses to run as root; the package makes this user."""


class PostgresqlServer:
    """
    A running server.

    Args:
        folder: Holds its socket.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def url(self, database: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://{OWNER}@/{database}?host={self._folder}"

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
def running_postgresql(*, syncs: bool = False) -> Iterator[PostgresqlServer]:
    """
    Start a server and end it on leaving.

    Args:
        syncs: Whether a commit waits for the disk. Tests do without: a crash of the machine is not what they test.
    """
    if not (BINARIES / "postgres").is_file():
        ensure_packages(["postgresql-15"])
    folder = Path(tempfile.mkdtemp(prefix="fairlead-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, OWNER)
        content = folder / "content"
        subprocess.run(
            [*_as_owner(), BINARIES / "initdb", "-D", content, "-A", "trust", "-U", OWNER, "-E", "UTF8", "--no-locale"],
            check=True,
            capture_output=True,
            timeout=60,
            cwd=folder,
        )
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                # SIGINT is PostgreSQL's fast shutdown; the kernel sends it when this process is gone.
                [
                    *_as_owner("--pdeathsig", "INT"), BINARIES / "postgres", "-D", content, "-k", folder,
                    "-c", "listen_addresses=", "-c", "max_connections=200", "-c", f"fsync={'on' if syncs else 'off'}",
                ],
                stdout=log,
                stderr=log,
                cwd=folder,
            )  # fmt: skip
        try:
            running = PostgresqlServer(folder)
            wait_until(
                lambda: server.poll() is not None or running.answers(), "PostgreSQL to answer", deadline_seconds=30
            )
            if server.poll() is not None:
                raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text()[-500:]}")
            yield running
        finally:
            # Nothing in it is needed any more, so it need not write a checkpoint first.
            server.send_signal(signal.SIGQUIT)
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_owner(*options: str) -> list[str]:
    """Return the words before a command that must not run as root."""
    identity = ["--reuid", OWNER, "--regid", OWNER, "--init-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *identity, *options]
