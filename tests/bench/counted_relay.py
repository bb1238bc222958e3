"""
The relay, with a count of its tasks: SIGUSR1 has it write that to the file named by FAIRLEAD_TASKS_FILE.

`python -m tests.bench.counted_relay` takes the relay's own arguments. Nothing else differs.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from pathlib import Path
from unittest.mock import patch

from fairlead_relay.app import Relay
from fairlead_relay.commands.root import cli

_start = Relay.start


async def _counted_start(relay: Relay) -> None:
    await _start(relay)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _write_count)


def _write_count() -> None:
    gc.collect()
    file = Path(os.environ["FAIRLEAD_TASKS_FILE"])
    fresh = file.with_suffix(".fresh")
    fresh.write_text(str(len(asyncio.all_tasks())))
    fresh.replace(file)


if __name__ == "__main__":
    with patch.object(Relay, "start", _counted_start):
        cli()
