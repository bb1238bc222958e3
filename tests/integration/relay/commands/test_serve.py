"""`fairlead-relay serve` as a process: exit codes and one sentence for what stops it."""

import subprocess
import sys
from pathlib import Path

import pytest


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command, which must end by itself."""
    command = [sys.executable, "-m", "fairlead_relay", "serve", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--api-listen", "nonsense"], "--api-listen"),
        (["--agent-url", "http://x"], "--agent-url"),
        (["--log-format", "xml"], "--log-format"),
        (["--unknown"], "--unknown"),
    ],
)
def test_a_wrong_flag_is_a_usage_error_that_names_it(arguments: list[str], named: str) -> None:
    """Exit code 2, as for every command."""
    ended = serve(*arguments)
    assert ended.returncode == 2
    assert named in ended.stderr


def test_a_wrong_variable_is_named_as_such() -> None:
    """Who set it in the environment looks for it there."""
    ended = serve(FAIRLEAD_RELAY_LEASE_SECONDS="soon")
    assert ended.returncode == 2
    assert "FAIRLEAD_RELAY_LEASE_SECONDS" in ended.stderr


def test_what_stops_it_is_one_sentence(tmp_path: Path) -> None:
    """Exit code 1, and no traceback."""
    (tmp_path / "file").write_text("")
    ended = serve("--data-dir", str(tmp_path / "file" / "data"), "--api-listen", ":0", "--agent-listen", ":0")
    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("Error: ")
