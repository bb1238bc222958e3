"""
Where benchmarks run: a directory on a disk, relays in processes of their own, and one control plane that is shared.

Everything is started when first asked for and gone at the end. Must not: measure.
"""

from __future__ import annotations

import itertools
import os
import secrets
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.cluster.cluster import Cluster
from tests.integration.relay_process import RelayProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


class Workplace:
    """What one run of the benchmarks shares."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._numbers = itertools.count(1)
        self._control_plane: Cluster | None = None
        # /var/tmp is on a disk where /tmp may be memory, whose commits would cost nothing.
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def folder(self, purpose: str) -> Path:
        """Make a fresh folder."""
        made = self.directory / f"{purpose}-{next(self._numbers)}"
        made.mkdir()
        return made

    def relay(self, environment: Mapping[str, str] | None = None, *, for_cluster: bool = False) -> RelayProcess:
        """
        Start a relay with an empty store; it ends with the workplace.

        Args:
            environment: Settings beyond the defaults.
            for_cluster: Whether the control plane's agents dial it.
        """
        variables = {"FAIRLEAD_RELAY_REQUESTS_PER_MINUTE": "10000000", **(environment or {})}
        host = "127.0.0.1"
        if for_cluster:
            host = "0.0.0.0"
            variables["FAIRLEAD_RELAY_SERVER_NAMES"] = f"localhost,127.0.0.1,{self.control_plane.outside_address}"
        process = RelayProcess(self.folder("relay") / "data", agent_host=host, environment=variables)
        self._stack.callback(process.close)
        process.start()
        if for_cluster:
            self.control_plane.allow(process.agent_port)
        return process

    @property
    def control_plane(self) -> Cluster:
        """A real API server without nodes, behind no open port."""
        if self._control_plane is None:
            self._control_plane = Cluster.up(f"bench-{os.getpid()}-{secrets.token_hex(3)}", nodes=0)
            self._stack.callback(self._control_plane.down)
        return self._control_plane

    def at_end(self) -> ExitStack:
        """Return the stack of what is closed at the end, for whatever a benchmark itself starts."""
        return self._stack
