"""
Tell the demo's story: what happens, why, and the command a person would type, with its real output below.

Must not: run anything by another way than it shows.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.cluster.progress import seconds_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_WIDTH = 100
_COMMAND_SECONDS = 600.0


class DemoFailed(Exception):
    """A step did not end as the story wants; the text says which and how."""


@dataclass
class Narrator:
    """Speaks on standard output; in colour only where a person looks."""

    steps: int
    """How many steps there will be."""
    begun: float = field(default_factory=time.monotonic)
    """When the command was started."""
    _step: int = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the command was started."""
        return time.monotonic() - self.begun

    def step(self, title: str, why: str) -> None:
        """
        Announce the next step.

        Args:
            title: What happens, a few words.
            why: What is to be seen in it, one or two sentences.
        """
        self._step += 1
        elapsed = seconds_text(self.elapsed)
        self.say("")
        self.say(self._styled(f"── {self._step} of {self.steps} · {title} ", "1") + self._styled(f"({elapsed})", "2"))
        self.say("\n".join(textwrap.wrap(why, _WIDTH)))

    def say(self, text: str) -> None:
        """Print lines."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def command(self, shown: str) -> None:
        """Show a command that runs next."""
        self.say(self._styled(f"$ {shown}", "36"))

    def file(self, path: Path) -> None:
        """Show a file as `cat` would."""
        self.command(f"cat {path.name}")
        self.say(path.read_text().rstrip())

    def _styled(self, text: str, code: str) -> str:
        coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        return f"\033[{code}m{text}\033[0m" if coloured else text


@dataclass(frozen=True)
class Shell:
    """Runs commands in one directory and shows them first."""

    narrator: Narrator
    directory: Path
    """Where commands run."""
    environment: Mapping[str, str]
    """All they see of it."""

    def run(
        self,
        argv: Sequence[str],
        *,
        shown: str = "",
        stdin: str = "",
        prefix: Sequence[str] = (),
        exits: int = 0,
    ) -> None:
        """
        Show a command and run it, its output on the terminal as it comes.

        Args:
            argv: Program and arguments.
            shown: What a person would type, where that is not `argv`.
            stdin: Text it reads.
            prefix: Words before it that are not shown, such as nsenter's.
            exits: Exit code that the story wants.
        Raises: DemoFailed: It ended with another code.
        """
        self.narrator.command(shown or shlex.join(argv))
        finished = subprocess.run(
            [*prefix, *argv],
            cwd=self.directory,
            env=dict(self.environment),
            input=stdin,
            text=True,
            check=False,
            timeout=_COMMAND_SECONDS,
        )
        if finished.returncode != exits:
            expected = f", and {exits} was expected" if exits else ""
            raise DemoFailed(f"`{shown or shlex.join(argv)}` ended with exit code {finished.returncode}{expected}")

    def read(self, argv: Sequence[str], *, stdin: str = "", prefix: Sequence[str] = ()) -> str:
        """
        Run a command without a word, and return what it wrote to standard output.

        Raises: DemoFailed: It failed; the text has what it said.
        """
        finished = subprocess.run(
            [*prefix, *argv],
            cwd=self.directory,
            env=dict(self.environment),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_SECONDS,
        )
        if finished.returncode:
            raise DemoFailed(
                f"`{shlex.join(argv)}` ended with exit code {finished.returncode}: {finished.stderr.strip()}"
            )
        return finished.stdout
