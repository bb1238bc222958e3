"""
A developer at a terminal, for tests: the installed `fairlead` command in processes of its own, with a home of its own.

Nothing of the command is replaced; it talks to a real relay over TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.polling import PATIENCE_SECONDS, eventually

"""For one command; more than any of these takes on a busy machine."""


@dataclass
class Ended:
    """A command that ended."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:  # noqa: ANN401  (whatever the command printed)
        """Return stdout as JSON, after checking that all went well."""
        assert self.code == 0, self
        return json.loads(self.stdout)


@dataclass
class Running:
    """A command that runs."""

    process: asyncio.subprocess.Process
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    def read(self) -> None:
        """Collect what it writes, as it comes."""
        for stream, collected in ((self.process.stdout, self.stdout), (self.process.stderr, self.stderr)):
            if stream is not None:
                self._readers.append(asyncio.create_task(self._collect(stream, collected)))

    async def _collect(self, stream: asyncio.StreamReader, collected: bytearray) -> None:
        while chunk := await stream.read(4096):
            collected += chunk

    async def wait_for(self, text: str) -> None:
        """Wait until it has written something, to either stream."""

        async def is_there() -> bool:
            return text.encode() in self.stdout + self.stderr

        await eventually(is_there, f"{text!r} in {self.stdout!r} {self.stderr!r}")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    async def end(self) -> Ended:
        """Wait for its end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await self.process.wait()
            await asyncio.gather(*self._readers)
        return Ended(code, self.stdout.decode(), self.stderr.decode())


@dataclass
class AtTerminal:
    """A program at a terminal of its own."""

    keyboard: int
    """Descriptor: what is written to it is typed."""
    shown: bytearray = field(default_factory=bytearray)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.keyboard, text.encode())

    def look(self) -> None:
        """Take what the program wrote."""
        with contextlib.suppress(OSError):  # the program has ended
            self.shown += os.read(self.keyboard, 65_536)

    async def wait_for(self, text: str) -> None:
        """Wait until the program has written something."""

        async def is_there() -> bool:
            return text.encode() in self.shown

        await eventually(is_there, f"{text!r} in {bytes(self.shown)!r}")


@dataclass(frozen=True)
class Developer:
    """Somebody with a home, who may be logged in."""

    home: Path

    def environment(self) -> dict[str, str]:
        """Return the variables of their processes."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
        return kept | {"FAIRLEAD_CONFIG": str(self.home / "config.yaml"), "COLUMNS": "200", "TERM": "xterm"}

    @contextlib.asynccontextmanager
    async def start(
        self,
        *arguments: str,
        stdin: int = asyncio.subprocess.DEVNULL,
        stdout: int = asyncio.subprocess.PIPE,
        stderr: int = asyncio.subprocess.PIPE,
    ) -> AsyncIterator[Running]:
        """Start a command; it is killed at the end of the block if it still runs."""
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "fairlead_cli", *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=self.environment(),
            cwd=self.home,
        )
        running = Running(process)
        running.read()
        try:
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    @contextlib.asynccontextmanager
    async def at_terminal(self, program: str, *arguments: str, **variables: str) -> AsyncIterator[AtTerminal]:
        """Start a program with a terminal of its own and further environment variables; it is killed at the end."""
        with screen() as (keyboard, terminal):
            process = await asyncio.create_subprocess_exec(
                program,
                *arguments,
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                env=self.environment() | variables,
                cwd=self.home,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )
            at_terminal = AtTerminal(keyboard)
            asyncio.get_running_loop().add_reader(keyboard, at_terminal.look)
            try:
                yield at_terminal
            finally:
                asyncio.get_running_loop().remove_reader(keyboard)
                process.kill()
                await process.wait()

    async def run(self, *arguments: str, stdin: str = "", **variables: str) -> Ended:
        """Run a command to its end, with further environment variables."""
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "fairlead_cli", *arguments],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment() | variables,
            cwd=self.home,
        )
        try:
            stdout, stderr = await asyncio.wait_for(process.communicate(stdin.encode()), PATIENCE_SECONDS)
        except TimeoutError:
            process.kill()
            raise
        assert process.returncode is not None
        return Ended(process.returncode, stdout.decode(), stderr.decode())

    async def must(self, *arguments: str, stdin: str = "") -> Ended:
        """Run a command that has to succeed."""
        ended = await self.run(*arguments, stdin=stdin)
        assert ended.code == 0, ended
        return ended

    def write(self, name: str, text: str) -> None:
        """Write a file below the home folder."""
        (self.home / name).parent.mkdir(exist_ok=True)
        (self.home / name).write_text(text)


@contextlib.contextmanager
def screen() -> Iterator[tuple[int, int]]:
    """Open a terminal: what is written to the second descriptor is read from the first."""
    reader, writer = pty.openpty()
    try:
        yield reader, writer
    finally:
        for descriptor in (reader, writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)
