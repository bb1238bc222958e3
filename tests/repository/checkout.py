"""
The checkout as its own tests see it: tracked files, members, modules and what they import.

Only files that git knows (or would add) count, so that caches and build results are never judged.
"""

import ast
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.polling import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]

MEMBERS = {"shared": "fairlead_shared", "agent": "fairlead_agent", "relay": "fairlead_relay", "cli": "fairlead_cli"}
"""Folder of each member and the package it holds."""


@dataclass(frozen=True)
class Module:
    """One Python module of a member."""

    member: str
    """The member's folder, such as `agent`."""
    path: Path
    """Absolute path of the file."""

    @property
    def relative(self) -> Path:
        """Path below the member's package, such as `kube/client.py`."""
        return self.path.relative_to(ROOT / self.member / "src" / MEMBERS[self.member])

    @property
    def tree(self) -> ast.Module:
        """The module, parsed."""
        return parse(self.path)

    def imports(self) -> dict[str, int]:
        """Map each absolutely imported module to the line of its first import, at any depth of the code."""
        found: dict[str, int] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found.setdefault(alias.name, node.lineno)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.setdefault(node.module, node.lineno)
        return found


@cache
def parse(path: Path) -> ast.Module:
    """Parse one Python file, once per run."""
    return ast.parse(path.read_text(), filename=str(path))


@cache
def tracked() -> tuple[Path, ...]:
    """List the files of the checkout that git tracks or would add, as absolute paths, without symbolic links."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    ).stdout
    paths = (ROOT / name for name in sorted(filter(None, listed.split("\0"))))
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


def python_files() -> list[Path]:
    """List the Python files of the checkout."""
    return [path for path in tracked() if path.suffix == ".py"]


def listed(wanted: str, found: set[str]) -> str:
    """Render what a rule found, one a line, below what it wants: a failed assertion shows it whole."""
    return "\n  ".join([f"{wanted}:", *sorted(found)])


def modules() -> list[Module]:
    """List the modules of all members."""
    sources = {ROOT / member / "src" / package: member for member, package in MEMBERS.items()}
    return [
        Module(member, path)
        for path in python_files()
        for source, member in sources.items()
        if path.is_relative_to(source)
    ]
