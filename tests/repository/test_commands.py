"""The commands that people and CI run: make's targets, and the script of CI."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.polling import PATIENCE_SECONDS
from tests.repository.checkout import ROOT

SUMMARY = "==== 3 passed in 0.01s ===="


def targets() -> set[str]:
    """Read the names of the Makefile's targets."""
    phony = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {name for line in phony for name in line.split()}


def test_make_alone_explains_every_target() -> None:
    """A target that help does not list is a target nobody finds."""
    shown = subprocess.run(
        ["make"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    ).stdout
    assert {line.split()[0] for line in shown.splitlines()[1:]} == targets()


@pytest.mark.parametrize(
    ("check", "tests", "expected"),
    [(0, 0, 0), (2, 0, 2), (0, 2, 2), (2, 3, 3)],
    ids=["green", "check", "tests", "both"],
)
def test_ci_fails_when_either_part_fails(check: int, tests: int, expected: int, tmp_path: Path) -> None:
    """CI runs both parts whatever the first says, exits as they did, and ends with the tests' summary."""
    make = tmp_path / "make"
    make.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = check ]; then exit {check}; fi\n'
        f'echo "{SUMMARY}"; [ {tests} -eq 0 ] || echo "make: *** [Makefile:1: test] Error {tests}" >&2; exit {tests}\n'
    )
    make.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [ROOT / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == expected
    assert done.stdout.splitlines()[-1] == SUMMARY
    assert done.stderr == ""
