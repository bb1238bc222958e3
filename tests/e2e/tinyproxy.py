"""
Debian's tinyproxy as a cluster's only way out: it makes tunnels, wants a user and a password, and looks into nothing.

It runs outside, on the address that clusters may be allowed to dial. Must not: allow that itself.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.debian import ensure_packages
from tests.cluster.network import OUTSIDE_ADDRESS
from tests.e2e.shut_in import listens
from tests.polling import PATIENCE_SECONDS, wait_until
from tests.ports import HeldPort

USER, PASSWORD = "harbour", "ropes-and-knots"


@dataclass(frozen=True)
class Tinyproxy:
    """One running proxy."""

    port: int
    log: Path

    def url(self, password: str = PASSWORD) -> str:
        """Return what HTTPS_PROXY would hold."""
        return f"http://{USER}:{password}@{OUTSIDE_ADDRESS}:{self.port}"

    def tunnels(self, address: str) -> int:
        """Count the tunnels asked for to HOST:PORT."""
        return self.log.read_text().count(f"CONNECT {address}")


@contextmanager
def tinyproxy(directory: Path) -> Iterator[Tinyproxy]:
    """Run one until the block is left, with its files in a directory; a network must exist."""
    ensure_packages(["tinyproxy"])
    port = HeldPort(OUTSIDE_ADDRESS).number
    log = directory / "log"
    (directory / "conf").write_text(
        f'Port {port}\nListen {OUTSIDE_ADDRESS}\nTimeout 600\nMaxClients 50\nLogFile "{log}"\nLogLevel Info\n'
        f"BasicAuth {USER} {PASSWORD}\n"
    )
    process = subprocess.Popen(["tinyproxy", "-d", "-c", str(directory / "conf")], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(OUTSIDE_ADDRESS, port), "tinyproxy to listen")
        yield Tinyproxy(port, log)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
