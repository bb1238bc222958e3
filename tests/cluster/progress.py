"""
Say on stderr what is going on whenever it takes long enough for a person to wonder.

A line is printed only once a step has lasted two seconds, then rarely; durations of earlier runs, kept in the cache,
give the estimate. Must not: write to stdout, which belongs to results.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_QUIET_SECONDS = 2.0
"""Shorter steps say nothing."""
_REPEAT_SECONDS = 15.0
"""Pause between two lines about one step: a ten-minute build takes one screen."""


def say(text: str) -> None:
    """Print one line on stderr."""
    sys.stderr.write(f"cluster: {text}\n")
    sys.stderr.flush()


def seconds_text(seconds: float) -> str:
    """
    Render a duration for people.

    Args:
        seconds: Duration, >= 0.
    Returns: `7 s` or `8 min 23 s`.
    """
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


class Durations:
    """How long named steps took the last time, in one JSON file; a lost or damaged file only costs the estimate."""

    def __init__(self, path: Path) -> None:
        """Use the file at `path`, which need not exist."""
        self._path = path

    def last(self, step: str, default_seconds: float) -> float:
        """Return the last duration of `step` in seconds, or `default_seconds` if it never ran here."""
        return self._read().get(step, default_seconds)

    def record(self, step: str, seconds: float) -> None:
        """Remember that `step` took `seconds`."""
        known = self._read() | {step: round(seconds, 1)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(f".{time.monotonic_ns()}")
        fresh.write_text(json.dumps(known, indent=1, sort_keys=True))
        fresh.replace(self._path)

    def _read(self) -> dict[str, float]:
        try:
            known = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(known, dict):
            return {}
        return {str(step): float(seconds) for step, seconds in known.items() if isinstance(seconds, int | float)}


@contextmanager
def step(what: str, estimate_seconds: float | None = None) -> Iterator[None]:
    """
    Announce a step that lasts, while the caller's block does the work.

    Args:
        what: What is done, as in "building kube".
        estimate_seconds: What it took before; None if unknown.
    """
    begun = time.monotonic()
    finished = threading.Event()
    estimate = f" of about {seconds_text(estimate_seconds)}" if estimate_seconds else ""
    announced = False

    def watch() -> None:
        nonlocal announced
        pause = _QUIET_SECONDS
        while not finished.wait(pause):
            say(f"{what}: {seconds_text(time.monotonic() - begun)}{estimate}")
            announced = True
            pause = _REPEAT_SECONDS

    watcher = threading.Thread(target=watch, name=f"progress of {what}", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
    if announced:
        say(f"{what}: done in {seconds_text(time.monotonic() - begun)}")
