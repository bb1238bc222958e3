"""The root command: what it lists, without importing it."""

import subprocess
import sys

from click.testing import CliRunner

from fairlead_relay import __version__
from fairlead_relay.commands.root import cli
from tests.polling import PATIENCE_SECONDS


def test_help_lists_every_command() -> None:
    """Each with a line of help that says what it does."""
    output = CliRunner().invoke(cli, ["--help"]).output
    for command in ("serve", "migrate", "token", "ca"):
        assert f"\n  {command} " in output


def test_each_listed_command_has_its_own_help() -> None:
    """The table of names and the modules agree."""
    for command in (["serve"], ["migrate"], ["token", "create"], ["ca", "show"]):
        result = CliRunner().invoke(cli, [*command, "--help"])
        assert result.exit_code == 0
        assert "--data-dir" in result.output


def test_the_version_is_the_packages() -> None:
    """As `version` of the API says it too."""
    assert (
        CliRunner().invoke(cli, ["--version"], prog_name="fairlead-relay").output == f"fairlead-relay {__version__}\n"
    )


def test_an_unknown_command_is_a_usage_error() -> None:
    """Exit code 2."""
    assert CliRunner().invoke(cli, ["sail"]).exit_code == 2


def test_help_does_not_import_what_serving_needs() -> None:
    """It answers at once on any machine."""
    code = (
        "import sys; from fairlead_relay.commands.root import cli; cli(['--help'], standalone_mode=False);"
        "sys.exit(bool({'fastapi', 'sqlalchemy', 'uvloop', 'structlog'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, timeout=PATIENCE_SECONDS, check=False
        ).returncode
        == 0
    )
