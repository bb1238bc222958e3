"""The command: help without the heavy imports, and failures as one sentence with an exit code."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairlead_agent import __main__ as command
from fairlead_agent import __version__
from tests.polling import PATIENCE_SECONDS


def test_version_and_help_answer() -> None:
    """Both work without any setting."""
    assert __version__ in CliRunner().invoke(command.cli, ["--version"]).output
    assert "FAIRLEAD_RELAY_URL" in CliRunner().invoke(command.cli, ["run", "--help"]).output


def test_help_imports_nothing_heavy() -> None:
    """Neither the API client nor the websocket library is loaded to print a page."""
    heavy = ("aiohttp", "websockets", "kubernetes")
    code = f"import sys, fairlead_agent.__main__; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    )
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("variables", "code", "sentence"),
    [
        ({}, 2, "--relay-url (FAIRLEAD_RELAY_URL): is not set"),
        ({"FAIRLEAD_RELAY_URL": "http://x"}, 2, "wss://HOST:PORT"),
        ({"FAIRLEAD_RELAY_URL": "wss://x:1"}, 2, "cannot be read"),
    ],
)
def test_failure_is_one_sentence(
    variables: dict[str, str],
    code: int,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wrong settings and an unreadable policy end with code 2 before anything is started."""
    for name in ("FAIRLEAD_RELAY_URL", "KUBERNETES_SERVICE_HOST", "FAIRLEAD_POLICY_FILE"):
        monkeypatch.delenv(name, raising=False)
    if variables:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv("FAIRLEAD_POLICY_FILE", str(tmp_path / "none.yaml"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["fairlead-agent", "run"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == code
    written = capsys.readouterr().err
    assert sentence in written
    assert written.count("\n") == 1
