"""
What can go wrong in the command, each with the exit code it ends with.

    CliError
    ├── ManifestInvalid      a file, a document or an object in it
    ├── ChartMissing         options for Helm charts, and no chart
    ├── ProgramMissing       helm or kustomize is not on this machine
    ├── ProgramFailed        helm or kustomize failed
    ├── ConfigInvalid        the command's own files and settings
    ├── RequestInvalid       what `fairlead api` is to send
    ├── OutputInvalid        a template of `-o jsonpath` gives too much
    ├── ContextUnknown       no relay is stored under this name
    ├── NotLoggedIn          no relay or no token to talk to it with
    ├── RecipientChanged     a cluster's sealing key is not the pinned one
    ├── NoRecipient          nobody to seal a Secret to
    ├── PlanUnanswered       the agent did not say in time what a deployment would do
    ├── PlanRefused          the agent's rules forbid even to plan it
    ├── RelayUnreachable     no answer
    ├── AnswerInvalid        an answer that is not the API's
    └── ApiError             the relay said no, as problem+json

All are permanent for the command: what is worth a retry was retried before.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from http import HTTPStatus


class ExitCode(IntEnum):
    """Exit codes of `fairlead`, listed in its `--help`; scripts match on them."""

    OK = 0
    ERROR = 1
    USAGE = 2
    CANCELLED = 3
    """Deployment cancelled, or `--timeout` reached."""
    AUTHENTICATION = 4
    FAILED = 5
    SUPERSEDED = 6
    PENDING = 8
    """The deployment goes on without us."""
    INTERRUPTED = 130
    """128 + SIGINT, as shells have it."""
    READER_GONE = 141
    """128 + SIGPIPE: nobody read on, so nobody knows how it ended."""


class CliError(Exception):
    """Root of this member's errors: one sentence on stderr, then `exit_code`."""

    exit_code = ExitCode.ERROR


class ManifestInvalid(CliError):
    """Something is wrong with what `-f` named. Never repeats a Secret's value."""

    def __init__(self, reason: str, *, file: str, line: int = 0, field: str = "") -> None:
        self.reason = reason
        self.file = file
        self.line = line
        """From 1; 0 when the whole file is meant."""
        self.field = field
        super().__init__(reason, file, line, field)

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.field}: {self.reason}" if self.field else f"{where}: {self.reason}"


class ChartMissing(CliError):
    """`--values`, `--set` or `--release-name` without a Helm chart."""

    exit_code = ExitCode.USAGE

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(self.names)

    def __str__(self) -> str:
        named = ", ".join(self.names)
        return f"--values, --set and --release-name are for Helm charts, and there is no Chart.yaml in {named}"


class ProgramMissing(CliError):
    """What `-f` named has to be rendered, and the program that does it is not on this machine."""

    def __init__(self, name: str, what: str, programs: str, command: str) -> None:
        self.name = name
        self.what = what
        self.programs = programs
        self.command = command
        """What to run on a machine that has the program."""
        super().__init__(name, what, programs, command)

    def __str__(self) -> str:
        return (
            f"{self.name} is {self.what}, and there is no {self.programs} on the PATH; install it, or deploy what a "
            f"machine that has it makes: {self.command} | fairlead deploy -f -"
        )


class ProgramFailed(CliError):
    """A program that was to render manifests did not."""

    def __init__(self, shown: str, reason: str, said: str = "") -> None:
        self.shown = shown
        """The command, without values that may be secret."""
        self.reason = reason
        self.said = said
        """What it wrote to standard error."""
        super().__init__(shown, reason, said)

    def __str__(self) -> str:
        return "\n".join([f"'{self.shown}' {self.reason}", *(f"  {line}" for line in self.said.splitlines())])


class ConfigInvalid(CliError):
    """The configuration file or a setting cannot be used."""

    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        self.reason = reason
        super().__init__(where, reason)

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class RequestInvalid(CliError):
    """A path, a field or a header of `fairlead api` that cannot be sent."""

    exit_code = ExitCode.USAGE

    def __init__(self, what: str, reason: str) -> None:
        self.what = what
        self.reason = reason
        super().__init__(what, reason)

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


class OutputInvalid(CliError):
    """The template of `-o jsonpath=…` cannot be applied to this answer."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"-o jsonpath: {self.reason}"


class ContextUnknown(CliError):
    """No context has the name that `--context` or FAIRLEAD_CONTEXT gives."""

    exit_code = ExitCode.AUTHENTICATION

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        self.known = tuple(known)
        super().__init__(name, self.known)

    def __str__(self) -> str:
        there = f"there are {', '.join(self.known)}" if self.known else "there is none at all"
        return f"no context is named {self.name!r}; {there}. 'fairlead login URL --context {self.name}' makes it"


class NotLoggedIn(CliError):
    """Neither the configuration file nor the environment says which relay to talk to, or with which token."""

    exit_code = ExitCode.AUTHENTICATION

    def __init__(self, missing: str) -> None:
        self.missing = missing
        super().__init__(missing)

    def __str__(self) -> str:
        return f"not logged in: {self.missing}; run 'fairlead login URL', or set FAIRLEAD_SERVER and FAIRLEAD_TOKEN"


class RecipientChanged(CliError):
    """The relay names another sealing key for a cluster than the one pinned at first use."""

    def __init__(self, cluster: str, pinned: str, offered: str, file: str, line: int) -> None:
        self.cluster = cluster
        self.pinned = pinned
        self.offered = offered
        self.file = file
        self.line = line
        super().__init__(cluster, pinned, offered, file, line)

    def __str__(self) -> str:
        return (
            f"the sealing key of cluster {self.cluster} changed: {self.pinned} is pinned, the relay now offers "
            f"{self.offered}. Nothing was sent. Ask the cluster's operator for the fingerprint that 'fairlead-agent "
            f"keys' prints; only if it is the new one, delete line {self.line} of {self.file} and deploy again"
        )


class NoRecipient(CliError):
    """There are Secret values and no agent yet that could open them."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        super().__init__(cluster)

    def __str__(self) -> str:
        return (
            f"the input has Secrets, and cluster {self.cluster} has no agent yet to seal their values to; install its "
            f"agent (see 'fairlead cluster show {self.cluster}'), then deploy again"
        )


class PlanUnanswered(CliError):
    """The agent did not say in time what a deployment would do."""

    exit_code = ExitCode.PENDING

    def __init__(self, seconds: float, reason: str) -> None:
        self.seconds = seconds
        self.reason = reason
        super().__init__(seconds, reason)

    def __str__(self) -> str:
        return f"no plan after {self.seconds:g} s: {self.reason}; --timeout waits longer"


class PlanRefused(CliError):
    """The agent's rules forbid even to plan a deployment, or it could not."""

    exit_code = ExitCode.FAILED

    def __init__(self, cluster: str, reason: str) -> None:
        self.cluster = cluster
        self.reason = reason
        super().__init__(cluster, reason)

    def __str__(self) -> str:
        return f"the agent of cluster {self.cluster} made no plan: {self.reason}"


class RelayUnreachable(CliError):
    """No answer from the relay, also after retries."""

    def __init__(self, server: str, reason: str) -> None:
        self.server = server
        self.reason = reason
        super().__init__(server, reason)

    def __str__(self) -> str:
        return f"no answer from the relay at {self.server}: {self.reason}"


class AnswerInvalid(CliError):
    """An answer that this version of the command cannot read."""

    def __init__(self, call: str, reason: str) -> None:
        self.call = call
        self.reason = reason
        super().__init__(call, reason)

    def __str__(self) -> str:
        remedy = "is this a Fairlead relay, and is the command as new as it ('fairlead version')?"
        return f"{self.call}: {self.reason}; {remedy}"


class ApiError(CliError):
    """
    The relay refused a call.

    Source: RFC 9457; `code` is one of the wire's error codes or of the API's.
    """

    def __init__(self, status: int, code: str, title: str, detail: str = "", field: str = "", path: str = "") -> None:
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.field = field
        self.path = path
        """Of the call."""
        self.remedy = ""
        """What to do, as far as the command found out."""
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            self.exit_code = ExitCode.AUTHENTICATION
        super().__init__(status, code, title, detail, field, path)

    def __str__(self) -> str:
        said = self.detail or self.title or f"HTTP status {self.status}"
        where = f"{self.field}: " if self.field else ""
        remedy = self.remedy or ("log in again with 'fairlead login'" if self.status == HTTPStatus.UNAUTHORIZED else "")
        return f"{where}{said} ({self.code})" + (f"; {remedy}" if remedy else "")
