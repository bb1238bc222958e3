"""
Types what a page of the documentation says: its commands in bash, as they stand, its files beside them.

What must differ from the page (names of hosts, of images) is one table of texts and what is put in their place. kubectl
and helm on the PATH are the real programs, told which cluster. Must not: leave out a command or change it otherwise.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.product.target import Target
from tests.repository.checkout import ROOT
from tests.repository.pages import Block, blocks

_BLOCK_SECONDS = 240.0
_BIN = Path(sys.prefix) / "bin"


@dataclass
class Terminal:
    """A shell in a folder of its own, in which somebody types a page."""

    directory: Path
    """Their working directory and home; `deploy` in it is the checkout's."""
    replacements: dict[str, str]
    """Text of the page → what is typed in its place."""
    environment: dict[str, str] = field(default_factory=dict)
    """Further variables."""

    def __post_init__(self) -> None:
        (self.directory / "bin").mkdir(parents=True)
        (self.directory / "deploy").symlink_to(ROOT / "deploy")

    def use(self, target: Target) -> None:
        """Let kubectl and helm mean a cluster from now on."""
        self._install("kubectl", [*target.prefix, str(target.kubectl_program), *target.kubectl_options])
        self._install("helm", [*target.prefix, str(target.helm_program), *target.helm_options])

    def typed(self, text: str) -> str:
        """Return a text of the page as it is typed."""
        for said, meant in self.replacements.items():
            text = text.replace(said, meant)
        return text

    def type_section(self, page: Path, section: str, *, exits: int = 0) -> str:
        """
        Write the files of a section, then run its commands in order.

        Args:
            page: The page.
            section: Its heading.
            exits: The code with which the last block has to end.
        Returns: What they wrote to stdout.
        """
        found = [block for block in blocks(page) if block.section == section]
        assert found, f"{page.name} has no section {section!r} with a block"
        for block in found:
            if block.language == "yaml":
                (self.directory / file_of(block)).write_text(self.typed(block.text))
        shells = [block for block in found if block.shell]
        return "".join(self.run(block.shell, exits=exits if block is shells[-1] else 0) for block in shells)

    def run(self, script: str, *, exits: int = 0) -> str:
        """Run a script of the page as typed, hold that it ends with this code, and return its stdout."""
        typed = self.typed(script)
        finished = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", typed],
            cwd=self.directory,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_BLOCK_SECONDS,
        )
        assert finished.returncode == exits, f"{typed}\n{finished.returncode}: {finished.stdout}\n{finished.stderr}"
        return finished.stdout

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the shell: no setting of another relay or cluster."""
        path = os.pathsep.join([str(self.directory / "bin"), str(_BIN), os.environ["PATH"]])
        kept = {"PATH": path, "HOME": str(self.directory), "LANG": "C.UTF-8", "COLUMNS": "200", "NO_COLOR": "1"}
        return kept | self.environment

    def _install(self, name: str, argv: list[str]) -> None:
        program = self.directory / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join(argv)} "$@"\n')
        program.chmod(0o755)


def file_of(block: Block) -> str:
    """Return the file that a block of YAML says it is, in its first line: `# NAME.yaml`."""
    name = block.text.partition("\n")[0].removeprefix("# ")
    assert name.endswith(".yaml"), f"{block.place}: the first line must name the file"
    return name
