"""A relay that serves agents through TLS inspection, on the address that proxies reach and clusters do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.network import OUTSIDE_ADDRESS
from tests.e2e.inspecting_squid import RELAY_HOST
from tests.integration.relay_process import RelayProcess


@contextmanager
def inspected_relay(data_dir: Path) -> Iterator[RelayProcess]:
    """Run one until the block is left."""
    running = RelayProcess(data_dir, agent_host=OUTSIDE_ADDRESS)
    running.environment = {
        "FAIRLEAD_RELAY_SERVER_NAMES": f"localhost,127.0.0.1,{OUTSIDE_ADDRESS},{RELAY_HOST}",
        "FAIRLEAD_RELAY_TLS_INSPECTION": "true",
    }
    try:
        yield running.start()
    finally:
        running.close()
