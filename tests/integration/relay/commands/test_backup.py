"""`fairlead-relay backup` and `restore`, beside a relay that serves."""

import stat
from pathlib import Path

from click.testing import CliRunner, Result

from fairlead_relay.backup.archive import ArchiveReader
from fairlead_relay.commands.root import cli
from tests.integration.bundles import config_maps, upload
from tests.integration.conftest import make_tenant
from tests.integration.relay_process import RelayProcess


def run(*arguments: str | Path) -> Result:
    """Run a command of the relay."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_backup_is_its_owners_alone(relay: RelayProcess, tmp_path: Path) -> None:
    """It holds the keys of the certificate authority."""
    file = tmp_path / "relay.backup"
    result = run("backup", "--data-dir", relay.data_dir, "--output", file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(ArchiveReader(file).pki()) >= {"root.pem", "root.key", "issuing.pem", "issuing.key", "signer.key"}


def test_a_backup_can_go_through_a_pipe(relay: RelayProcess, tmp_path: Path) -> None:
    """To be encrypted on its way; what is said of it goes to standard error."""
    result = run("backup", "--data-dir", relay.data_dir, "--output", "-")
    assert result.exit_code == 0
    (tmp_path / "piped").write_bytes(result.stdout_bytes)
    assert ArchiveReader(tmp_path / "piped").about.schema
    assert "are backed up" in result.stderr


def test_a_backup_that_fails_leaves_the_last_one_alone(tmp_path: Path) -> None:
    """The new one is put in place when it is whole."""
    file = tmp_path / "relay.backup"
    file.write_bytes(b"the last one")
    result = run("backup", "--data-dir", tmp_path / "empty", "--output", file)
    assert result.exit_code == 1
    assert "the store cannot be used: its schema is missing" in result.stderr
    assert file.read_bytes() == b"the last one"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    result = run("backup", "--data-dir", tmp_path / "empty", "--output", tmp_path / "nowhere" / "relay.backup")
    assert result.exit_code == 1
    assert "no backup was written: No such file or directory" in result.stderr


def test_a_bundle_that_is_gone_is_named(own_relay: RelayProcess, tmp_path: Path) -> None:
    """The rest is backed up all the same, and the exit code says that something is missing."""
    tenant = make_tenant(own_relay)
    kept, gone = config_maps(), config_maps()
    for bundle in (kept, gone):
        upload(tenant.deployer, tenant.organization, bundle)
    (own_relay.data_dir / "blobs" / gone.sha256[:2] / f"{gone.sha256}.z").unlink()
    result = run("backup", "--data-dir", own_relay.data_dir, "--output", tmp_path / "relay.backup")
    assert result.exit_code == 1
    assert f"1 bundles are missing, since their bytes are gone or damaged in the relay, too: {gone.sha256[:12]}" in (
        result.stderr
    )
    assert [sha256 for sha256, _ in ArchiveReader(tmp_path / "relay.backup").blobs()] == [kept.sha256]


def test_a_restore_waits_for_no_relay(relay: RelayProcess, tmp_path: Path) -> None:
    """Beside one that serves it is refused; a file that is no backup, too, and a place that is not empty."""
    make_tenant(relay)
    file = tmp_path / "relay.backup"
    assert run("backup", "--data-dir", relay.data_dir, "--output", file).exit_code == 0
    result = run("restore", "--data-dir", relay.data_dir, file)
    assert result.exit_code == 1
    assert "another relay runs on it" in result.stderr
    new = tmp_path / "new"
    (tmp_path / "text").write_text("no backup")
    result = run("restore", "--data-dir", new, tmp_path / "text")
    assert result.exit_code == 1
    assert "text cannot be used: it is damaged or was cut short" in result.stderr
    result = run("restore", "--data-dir", new, file)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("restored the backup of 20")
    assert "revoke again who was revoked since" in result.stderr
    assert (new / "pki" / "root.key").read_bytes() == (relay.data_dir / "pki" / "root.key").read_bytes()
    result = run("restore", "--data-dir", new, file)
    assert result.exit_code == 1
    assert "the store is not empty; --replace gives up what it holds" in result.stderr
