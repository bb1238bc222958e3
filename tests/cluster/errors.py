"""
Errors of the cluster tool: what went wrong and what to do, in one sentence each.

    ClusterError
    ├── MissingTool        a program or right this machine lacks; install it, then retry
    ├── BuildFailed        the Go compiler refused; permanent until the source or cache is mended
    ├── CommandFailed      a program of the system returned non-zero
    ├── NotReady           something did not come up before its deadline; the end of its log is in the text
    ├── NameTaken          another cluster of that name is up
    ├── UnknownCluster     no cluster of that name is up
    └── NotIsolated        the firewall does not hold; nothing was started behind it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class ClusterError(Exception):
    """Anything the cluster tool reports to its caller; the command line exits 1 with this text."""


class MissingTool(ClusterError):
    """A program, right or kernel feature that this machine does not have."""

    def __init__(self, missing: str, remedy: str) -> None:
        """Keep what is `missing` and the `remedy` a person can apply."""
        super().__init__(missing, remedy)
        self.missing = missing
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.missing} is missing: {self.remedy}"


class BuildFailed(ClusterError):
    """The Go compiler refused a module."""

    def __init__(self, module: str, output: str) -> None:
        """Keep the `module`'s name and the end of the compiler's `output`."""
        super().__init__(module, output)
        self.module = module
        self.output = output

    def __str__(self) -> str:
        return f"building {self.module} failed; the compiler's last words:\n{self.output}"


class CommandFailed(ClusterError):
    """A program of the system returned non-zero."""

    def __init__(self, argv: Sequence[str], code: int, output: str) -> None:
        """Keep the command, its exit code and what it said."""
        super().__init__(argv, code, output)
        self.argv = list(argv)
        self.code = code
        self.output = output

    def __str__(self) -> str:
        return f"`{' '.join(self.argv)}` exited {self.code}: {self.output.strip() or 'it said nothing'}"


class NotReady(ClusterError):
    """Something did not come up before its deadline."""

    def __init__(self, what: str, seconds: float, last: str) -> None:
        """Keep `what` was awaited, for how many `seconds`, and the `last` answer."""
        super().__init__(what, seconds, last)
        self.what = what
        self.seconds = seconds
        self.last = last

    def __str__(self) -> str:
        return f"{self.what} did not happen within {self.seconds:g} s; last seen: {self.last}"


class NameTaken(ClusterError):
    """Another cluster of that name is up."""

    def __init__(self, name: str) -> None:
        """Keep the `name`."""
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"{self.name} is already up: choose another name or run `python -m tests.cluster down --name {self.name}`"
        )


class UnknownCluster(ClusterError):
    """No cluster of that name is up."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        """Keep the `name` asked for and those that are `known`."""
        super().__init__(name, known)
        self.name = name
        self.known = list(known)

    def __str__(self) -> str:
        return f"no cluster {self.name} is up (up: {', '.join(self.known) or 'none'})"


class NotIsolated(ClusterError):
    """The firewall does not hold: a connection that must fail went through, or a rule is not there."""

    def __init__(self, finding: str) -> None:
        """Keep the `finding`."""
        super().__init__(finding)
        self.finding = finding

    def __str__(self) -> str:
        return f"the cluster's firewall does not hold: {self.finding}; nothing was started behind it"
