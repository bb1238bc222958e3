"""`fairlead completion`."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import Result

from fairlead_cli.commands.completion import SHELLS
from tests.polling import PATIENCE_SECONDS


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script(shell: str, fairlead: Callable[..., Result]) -> None:
    """Which asks the command itself what fits."""
    result = fairlead("completion", shell)
    assert result.exit_code == 0
    assert "_FAIRLEAD_COMPLETE" in result.stdout


def test_commands_are_completed() -> None:
    """What a shell gets when somebody typed `fairlead dep<Tab>`."""
    asked = {"_FAIRLEAD_COMPLETE": "bash_complete", "COMP_WORDS": "fairlead dep", "COMP_CWORD": "1"}
    said = subprocess.run(
        [sys.executable, "-m", "fairlead_cli"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    ).stdout
    assert said.splitlines() == ["plain,deploy", "plain,deployments"]
