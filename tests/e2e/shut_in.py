"""
A cluster's network without a cluster in it, and agents of this process whose every connection starts inside of it.

So what an agent can reach is decided by the network's firewall, while relay and proxies run outside. Must not: open
anything by itself.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from fairlead_agent import dialling
from tests.cluster.access import inside
from tests.cluster.network import Network
from tests.cluster.record import Record


@contextmanager
def shut_in_network(name: str) -> Iterator[Network]:
    """Make a network until the block is left; what it may dial is allowed by the test."""
    record = Record.create(f"{name}-{os.getpid()}-{secrets.token_hex(2)}")
    try:
        made = Network(record=record)
        made.make()
        yield made
    finally:
        record.clear()


def dial_inside(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the agent's sockets made inside: a socket belongs to the namespace it was made in."""

    def make(*arguments: int) -> socket.socket:
        with inside(network.netns):
            return socket.socket(*arguments)

    # The agent's module alone: relay and proxy are in this process and on this machine, and stay outside.
    monkeypatch.setattr(dialling, "socket", SimpleNamespace(**{**vars(socket), "socket": make}))


def listens(address: str, port: int) -> bool:
    """Tell whether somebody listens there."""
    with socket.socket() as attempt:
        return attempt.connect_ex((address, port)) == 0
