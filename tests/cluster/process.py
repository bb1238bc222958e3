"""
Start the long-lived processes of a cluster so that none can outlive its record.

A process first joins the cluster's control group, then waits on a pipe until its id is in the journal, and only then
becomes the program asked for: whenever the tool is killed, what it started is either recorded or gone. Must not: start
anything in the caller's own session, where a Ctrl-C would reach it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster.commands import end_of, wait_until
from tests.cluster.errors import ClusterError, NotReady
from tests.cluster.record import start_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.cluster.record import Record

# The word comes once the id is recorded; if the tool dies first, `read` meets the end of the pipe and the shell leaves.
_LAUNCH = 'echo 0 > "$1"/cgroup.procs && read -r word && shift && exec "$@" < /dev/null'
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Process:
    """A recorded process of a cluster; its log holds what it wrote to stdout and stderr."""

    name: str
    """Name within the cluster; also the log's."""
    log: Path
    """File of its output."""
    popen: subprocess.Popen[bytes]
    """The operating system's process; its session holds its children too."""

    @property
    def pid(self) -> int:
        """Process id."""
        return self.popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.popen.poll() is None

    def wait(self, seconds: float) -> int:
        """
        Wait for its end.

        Args:
            seconds: Deadline.
        Returns: Its exit code; negative is the signal that ended it.
        Raises: NotReady: It still runs.
        """
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired as expired:
            raise NotReady(f"the end of {self.name}", seconds, "it still runs") from expired

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to it alone; one that has ended is left in peace."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL it and the children in its session, and wait: what a crash or the kernel's OOM killer would do."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()

    def terminate(self, seconds: float = 10.0) -> int:
        """
        Ask it to end, and wait.

        Args:
            seconds: Deadline.
        Returns: Its exit code.
        Raises: NotReady: It did not obey.
        """
        self.popen.terminate()
        return self.wait(seconds)

    def await_effect(self, what: str, look: Callable[[], str | None], *, seconds: float) -> None:
        """
        Wait until an effect of this process shows, or until it has ended, whichever comes first.

        Args:
            what: The effect, for the error.
            look: Returns None once it shows, else what is in the way.
            seconds: Deadline.
        Raises: NotReady: The deadline passed or the process ended; the error has the end of its log.
        """

        def look_twice() -> str | None:
            blocker = look()
            if blocker is not None and not self.running:
                raise NotReady(what, seconds, f"{self.name} exited {self.popen.returncode}: {end_of(self.log)}")
            return blocker

        wait_until(what, look_twice, seconds=seconds, log=self.log)


def start(
    record: Record,
    group: Path,
    name: str,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    netns: Path | None = None,
    mounts_of: int | None = None,
    user: int | None = None,
) -> Process:
    """
    Start a recorded process.

    Args:
        record: Journal it is written to; its directory gets log/NAME.log, appended if it exists.
        group: Control group to join, already recorded.
        name: Name within the cluster.
        argv: Program and arguments, seen by everybody on the machine: no secrets.
        environment: Variables beyond PATH, HOME and LANG; nothing else is inherited, so that a proxy or kubeconfig of
            the person at the terminal has no effect.
        netns: Network namespace to run in; None for the host's.
        mounts_of: Process whose mount namespace to run in; None for the host's.
        user: User id (and group id) to run as; None for root.
    Raises: ClusterError: It could not even be started.
    """
    enter: list[str] = []
    if netns or mounts_of:
        enter = ["nsenter", *([f"--net={netns}"] if netns else [])]
        enter += [f"--mount=/proc/{mounts_of}/ns/mnt"] if mounts_of else []
        enter += ["--"]
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"] if user is not None else []
    log = record.directory / "log" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    base = {"PATH": os.environ.get("PATH", _SEARCH_PATH), "HOME": str(record.directory), "LANG": "C.UTF-8"}
    with log.open("ab") as output:
        popen = subprocess.Popen(
            ["/bin/sh", "-c", _LAUNCH, "launch", str(group), *enter, *become, *argv],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**base, **(environment or {})},
            start_new_session=True,
        )
    record.note("process", pid=popen.pid, start=start_time(popen.pid), name=name)
    record.adopt(popen)
    if popen.stdin is None:
        raise ClusterError(f"{name} was started without its pipe")
    try:
        with popen.stdin as pipe:
            pipe.write(b"go\n")
    except BrokenPipeError as broken:
        raise ClusterError(f"{name} could not join {group}: {log.read_text(errors='replace')[-500:]}") from broken
    return Process(name=name, log=log, popen=popen)
