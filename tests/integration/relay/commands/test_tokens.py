"""`fairlead-relay token create`: also while the relay serves."""

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairlead_relay.commands.root import cli
from tests.integration.conftest import Tenant
from tests.integration.relay_process import RelayProcess


def run(*arguments: str) -> tuple[int, str, str]:
    """Run the command; return its exit code, output and errors."""
    result = CliRunner().invoke(cli, ["token", "create", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_token_made_while_the_relay_serves_works_at_once(relay: RelayProcess) -> None:
    """No restart, and the organization is created with it."""
    token = relay.token("viewer", "brand-new")
    assert relay.client(token).ask("GET", "/v1/whoami")["organization"] == "brand-new"


def test_an_output_file_holds_the_token_alone_and_for_its_owner_only(tmp_path: Path) -> None:
    """The token is then not on the terminal, where logs would have it."""
    file = tmp_path / "token"
    arguments = ["--data-dir", str(tmp_path / "data"), "--organization", "acme", "--role", "admin"]
    assert run(*arguments, "--output-file", str(file)) == (0, "", "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("flt_")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (["--organization", "Not Valid"], "organization"),
        (["--role", "king"], "--role"),
        (["--application", "Not Valid"], "application"),
        (["--name", "x" * 101], "--name"),
        (["--expires", "soon"], "--expires"),
        (["--expires", "0d"], "--expires"),
    ],
)
def test_wrong_values_are_usage_errors_that_name_them(tmp_path: Path, changed: list[str], named: str) -> None:
    """Nothing is created."""
    arguments = ["--data-dir", str(tmp_path / "data"), "--organization", "acme", "--role", "admin", *changed]
    code, output, errors = run(*arguments)
    assert (code, output) == (2, "")
    assert named in errors


def test_a_token_that_never_expires_says_so(relay: RelayProcess) -> None:
    """Only by asking for it."""
    shown = relay.client(relay.token("viewer", "forever", "never")).ask("GET", "/v1/whoami")
    assert shown["expires_at"] is None


def test_a_token_may_be_for_one_application_that_exists(tenant: Tenant) -> None:
    """And has a name."""
    arguments = ["--data-dir", str(tenant.relay.data_dir), "--organization", tenant.organization, "--role", "viewer"]
    code, token, _ = run(*arguments, "--application", "shop", "--name", "CI of the shop")
    assert code == 0
    shown = tenant.relay.client(token.strip()).ask("GET", "/v1/whoami")
    assert (shown["application"], shown["name"]) == ("shop", "CI of the shop")
    code, _, errors = run(*arguments, "--application", "bookshop")
    assert (code, errors) == (1, "Error: no application is named 'bookshop'\n")


def test_a_database_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    """Exit code 1."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "relay.db").write_bytes(b"this is no database" * 1000)
    code, output, errors = run("--data-dir", str(tmp_path / "data"), "--organization", "acme", "--role", "admin")
    assert (code, output) == (1, "")
    assert len(errors.strip().splitlines()) == 1
