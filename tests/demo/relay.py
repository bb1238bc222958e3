"""
The demo's relay: the real `fairlead-relay serve`, as a process on this machine with its data in the demo's home.

Must not: outlive the demo; the home's record ends it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import process

if TYPE_CHECKING:
    from tests.demo.ground import Home

_START_SECONDS = 60.0
BIN = Path(sys.prefix) / "bin"
"""Where the workspace's commands are."""


@dataclass(frozen=True, kw_only=True)
class Relay:
    """A relay that is up."""

    api_url: str
    """Where people reach it, on this machine only."""
    agent_url: str
    """Where agents dial."""
    log: Path
    """What it wrote."""

    @property
    def agent_port(self) -> int:
        """TCP port that agents dial."""
        return int(self.agent_url.rpartition(":")[2])


def serve_arguments(address: str) -> list[str]:
    """Return the command that serves on free ports: people on this machine, agents at `address`."""
    listen = ["--api-listen", "127.0.0.1:0", "--agent-listen", f"{address}:0"]
    names = ["--server-name", address, "--server-name", "127.0.0.1"]
    return ["fairlead-relay", "serve", "--data-dir", "relay", *listen, *names]


def start_relay(home: Home, address: str) -> Relay:
    """
    Start the relay and wait until it serves.

    Args:
        home: Where its data and its log go.
        address: Address at which agents dial.
    Raises: NotReady: It did not come up; the error has its last words.
    """
    ready = home.directory / "relay" / "ready.json"
    argv = serve_arguments(address)
    argv[argv.index("relay")] = str(ready.parent)
    started = process.start(home.record, home.group, "relay", [str(BIN / argv[0]), *argv[1:]])
    started.await_effect(
        "the relay's start", lambda: None if ready.exists() else "no ready.json", seconds=_START_SECONDS
    )
    served = json.loads(ready.read_text())
    return Relay(api_url=served["api_url"], agent_url=served["agent_url"], log=started.log)
