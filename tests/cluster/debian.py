"""
Install the Debian packages a cluster needs, and only those that are missing.

Must not: touch apt at all when everything is there; a test run on a prepared machine costs one dpkg-query.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.errors import CommandFailed, MissingTool
from tests.cluster.progress import say, step

if TYPE_CHECKING:
    from collections.abc import Sequence

_LISTS = Path("/var/lib/apt/lists")
_LISTS_FRESH_SECONDS = 86_400.0
"""Package lists younger than a day are not fetched again."""
_APT_LIMIT_SECONDS = 900.0
_known: set[str] = set()
"""Packages this process has already seen installed."""


def ensure_packages(packages: Sequence[str]) -> None:
    """
    Make sure Debian packages are installed.

    Args:
        packages: Names as apt knows them.
    Raises:
        CommandFailed: apt could not install them.
        MissingTool: This is no Debian, or we are not root.
    """
    missing = _missing([name for name in packages if name not in _known])
    if missing:
        if os.geteuid() != 0:
            raise MissingTool(f"Debian package {' '.join(missing)}", "run this as root or install it by hand")
        say(f"installing Debian packages: {' '.join(missing)}")
        with step("installing Debian packages", 20):
            _refresh_lists()
            _apt("install", "--yes", "--no-install-recommends", *missing)
        if still := _missing(missing):
            raise MissingTool(f"Debian package {' '.join(still)}", "apt reported success; look at its log")
    _known.update(packages)


def _missing(packages: Sequence[str]) -> list[str]:
    if not packages:
        return []
    try:
        # Exits 1 when it does not know one of them, and prints the others all the same.
        answer = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *packages],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except FileNotFoundError as absent:
        raise MissingTool("dpkg-query", "the cluster tool needs Debian or a derivative") from absent
    installed = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in packages if name not in installed]


def _refresh_lists() -> None:
    newest = max((path.stat().st_mtime for path in _LISTS.glob("*_Packages*")), default=0.0)
    if time.time() - newest > _LISTS_FRESH_SECONDS:
        _apt("update")


def _apt(*arguments: str) -> None:
    argv = ["apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=600", *arguments]
    finished = subprocess.run(
        argv,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_APT_LIMIT_SECONDS,
        check=False,
    )
    if finished.returncode:
        raise CommandFailed(
            argv, finished.returncode, "\n".join((finished.stdout + finished.stderr).splitlines()[-15:])
        )
