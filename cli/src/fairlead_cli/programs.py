"""
Runs a program of the developer's machine (helm, kustomize) for what it writes to standard output.

No shell is involved, nothing can be typed into it, time and output are bounded, and it gets only those variables that
it needs to find its own files and the network: a plugin of it must not see our token or CI's secrets.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairlead_cli.errors import ProgramFailed

MAX_REMARK_BYTES = 16 * 1024
"""Of what a program wrote to standard error; the rest is read and dropped."""

_CHUNK_BYTES = 64 * 1024

_KEPT = frozenset(
    {
        "ALL_PROXY",
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LOGNAME",
        "NO_PROXY",
        "PATH",
        "SSH_AUTH_SOCK",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TZ",
        "USER",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
    }
)
_KEPT_PREFIXES = ("GIT_", "HELM_", "KUSTOMIZE_")


@dataclass(frozen=True, slots=True)
class Written:
    """What a program wrote before it ended well."""

    stdout: bytes
    stderr: str
    """Its remarks, as text, without white space around them."""


def find_program(names: Sequence[str], variables: Mapping[str, str]) -> str | None:
    """
    Find the first of some programs that is there.

    Args:
        names: Programs, the best first.
        variables: With the PATH to search.
    Returns: Its path; None if none is there.
    """
    paths = (shutil.which(name, path=variables.get("PATH")) for name in names)
    return next((path for path in paths if path is not None), None)


def kept_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return those of some environment variables that a program may see."""
    return {
        name: value
        for name, value in variables.items()
        if name in _KEPT or name.upper() in _KEPT or name.startswith(_KEPT_PREFIXES)
    }


def run_program(
    argv: Sequence[str], variables: Mapping[str, str], *, seconds: float, most_bytes: int, shown: str
) -> Written:
    """
    Run a program to its end.

    Args:
        argv: The program's path and its arguments.
        variables: Its environment variables.
        seconds: How long it may take, > 0.
        most_bytes: How much it may write to standard output.
        shown: How errors name it.
    Raises: ProgramFailed: it cannot be started, fails, takes too long or writes too much.
    """
    try:
        process = subprocess.Popen(  # noqa: S603  (no shell; the program is the one the user has on the PATH)
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(variables),
            start_new_session=True,  # so that what it started can be ended with it, and nothing asks for a password
        )
    except OSError as error:
        raise ProgramFailed(shown, f"cannot be started: {error.strerror}") from error
    deadline = time.monotonic() + seconds
    try:
        stdout, stderr = _collect(process, deadline, most_bytes)
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired):
        raise ProgramFailed(shown, f"has not ended after {seconds:.0f} s") from None
    except _TooMuch:
        raise ProgramFailed(shown, f"wrote more than {most_bytes:,} bytes") from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    said = stderr.decode(errors="replace").strip()
    if code != 0:
        raise ProgramFailed(shown, f"ended with exit code {code}", said)
    return Written(stdout, said)


class _TooMuch(Exception):
    """The program wrote more than it may."""


def _collect(process: subprocess.Popen[bytes], deadline: float, most_bytes: int) -> tuple[bytes, bytes]:
    """Read both streams to their ends. Raises: TimeoutError, _TooMuch."""
    stdout, stderr = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, stdout)  # type: ignore[arg-type]  # both are pipes
        selector.register(process.stderr, selectors.EVENT_READ, stderr)  # type: ignore[arg-type]  # as above
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, _CHUNK_BYTES)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.data is stdout:
                    stdout += chunk
                    if len(stdout) > most_bytes:
                        raise _TooMuch
                else:
                    stderr += chunk[: MAX_REMARK_BYTES - len(stderr)]
    return bytes(stdout), bytes(stderr)
