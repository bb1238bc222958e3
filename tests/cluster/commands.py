"""
Run short programs of the system with a deadline, and wait for conditions with one.

Must not: start anything that outlives the call; processes of a cluster go through `process.py`, which records them.
"""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from tests.cluster.errors import CommandFailed, MissingTool, NotReady

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_POLL_SECONDS = 0.05
"""Pause between two looks at a condition: short against the seconds a component takes to start."""


def run(argv: Sequence[str], *, stdin: str | None = None, seconds: float = 30.0) -> str:
    """
    Run a program to its end.

    Args:
        argv: Program and arguments.
        stdin: Text it reads; None for nothing.
        seconds: Deadline.
    Returns: What it wrote to stdout.
    Raises:
        CommandFailed: It returned non-zero or overran its deadline.
        MissingTool: There is no such program.
    """
    try:
        finished = subprocess.run(
            list(argv),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        raise CommandFailed(argv, -1, f"no end after {seconds:g} s") from expired
    except FileNotFoundError as absent:
        raise MissingTool(f"program {argv[0]}", "install the Debian package that has it") from absent
    if finished.returncode:
        raise CommandFailed(argv, finished.returncode, finished.stderr or finished.stdout)
    return finished.stdout


def end_of(log: Path, lines: int = 8) -> str:
    """Return the last lines of a log, or that there is none."""
    if not log.exists():
        return "(no such file)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def wait_until(
    what: str,
    look: Callable[[], str | None],
    *,
    seconds: float,
    log: Path | None = None,
    every_seconds: float = _POLL_SECONDS,
) -> None:
    """
    Look again and again until a condition holds.

    Args:
        what: The condition, for the error: "the API server is ready".
        look: Returns None once it holds, else what is in the way.
        seconds: Deadline.
        log: File whose end belongs into the error: the file itself goes when a start that failed is cleared.
        every_seconds: Pause between two looks.
    Raises: NotReady: The deadline passed.
    """
    deadline = time.monotonic() + seconds
    while (last := look()) is not None:
        if time.monotonic() >= deadline:
            raise NotReady(what, seconds, f"{last}; {log.name} ends: {end_of(log)}" if log else last)
        time.sleep(every_seconds)
