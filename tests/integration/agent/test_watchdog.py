"""The watchdog in processes of their own: it ends one whose loop is stuck, and no other."""

import signal
import subprocess
import sys
import time

import pytest

from fairlead_agent.watchdog import EXIT_STUCK
from tests.polling import PATIENCE_SECONDS, wait_until

PROGRAM = """
import asyncio, sys, time
from fairlead_agent.watchdog import Watchdog, end_process

def stand_still():
    time.sleep(600)

async def main():
    watchdog = Watchdog(end_process, tick_seconds=0.1, stuck_ticks=20)
    watchdog.start()
    print("watched", flush=True)
    if sys.argv[1] == "stuck":
        stand_still()
    for _ in range(10):
        time.sleep(0.2)  # slow turns are turns
        await asyncio.sleep(0)
    await asyncio.sleep(1)
    watchdog.stop()

asyncio.run(main())
"""


def start(how: str) -> subprocess.Popen[str]:
    """Start the program and wait until it is watched."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "watched\n"
    return process


def test_a_stuck_loop_ends_the_process_and_says_where_it_stands() -> None:
    """Within its time, with a code of its own and the stack of the culprit."""
    process = start("stuck")
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == EXIT_STUCK
    assert "event loop is stuck" in said
    assert "stand_still" in said


@pytest.mark.parametrize("stopped", [False, True])
def test_a_loop_that_turns_slowly_or_was_stopped_goes_on(stopped: bool) -> None:  # noqa: FBT001
    """A paused process or a sleeping machine is not stuck."""
    process = start("turning")
    if stopped:
        process.send_signal(signal.SIGSTOP)
        resume_at = time.monotonic() + 3.0
        wait_until(lambda: time.monotonic() > resume_at, "a pause longer than stuck")
        process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, said) == (0, "")
