"""`fairlead-relay migrate`: once, and again."""

from pathlib import Path

from click.testing import CliRunner

from fairlead_relay.commands.root import cli


def test_migrate_makes_the_database_and_finds_it_done_the_second_time(tmp_path: Path) -> None:
    """A job of the installation may run it as often as it likes."""
    for _ in range(2):
        result = CliRunner().invoke(cli, ["migrate", "--data-dir", str(tmp_path / "data")])
        assert (result.exit_code, result.output) == (0, "the database is up to date\n")
    assert (tmp_path / "data" / "relay.db").exists()
