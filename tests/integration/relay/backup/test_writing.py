"""A relay's own backups, by a process of its own, while it serves; and what one of them is worth."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from fairlead_relay.backup.archive import ArchiveReader
from fairlead_relay.backup.schedule import in_a_process
from fairlead_relay.errors import BackupFailed
from fairlead_relay.settings import Settings
from tests.integration.bundles import config_maps, upload
from tests.integration.conftest import make_tenant
from tests.integration.relay_process import RelayProcess
from tests.polling import PATIENCE_SECONDS, wait_until


def test_a_relay_writes_its_own_backups(tmp_path: Path) -> None:
    """At its start when there is none; whole, for its owner alone, and the log says so."""
    folder = tmp_path / "backups"
    relay = RelayProcess(tmp_path / "data", environment={"FAIRLEAD_RELAY_BACKUP_DIR": str(folder)})
    try:
        relay.start()
        (file,) = wait_until(lambda: list(folder.glob("relay-*.backup")), "a backup")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert "root.key" in ArchiveReader(file).pki()
        wait_until(lambda: '"event": "backup written"' in relay.log.read_text(), "the line in the log")
        assert relay.stop() == 0
        relay.start()
        assert relay.stop() == 0
        assert list(folder.iterdir()) == [file]
    finally:
        relay.close()


async def test_a_process_writes_all_of_it_or_says_why_not(own_relay: RelayProcess, tmp_path: Path) -> None:
    """Its error comes back as a sentence, and no file."""
    tenant = await asyncio.to_thread(make_tenant, own_relay)
    bundle = config_maps()
    await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    write = in_a_process(Settings(data_dir=own_relay.data_dir))
    written = await write(tmp_path / "one.backup")
    assert (written.bundles, written.missing) == (1, 0)
    assert [sha256 for sha256, _ in ArchiveReader(tmp_path / "one.backup").blobs()] == [bundle.sha256]
    with pytest.raises(BackupFailed, match="schema is missing"):
        await in_a_process(Settings(data_dir=tmp_path / "empty"))(tmp_path / "two.backup")
    assert not (tmp_path / "two.backup").exists()


async def test_one_that_is_given_up_leaves_no_process_and_no_file(own_relay: RelayProcess, tmp_path: Path) -> None:
    """A relay that stops does not wait for its backup."""
    write = in_a_process(Settings(data_dir=own_relay.data_dir))
    task = asyncio.ensure_future(write(tmp_path / "one.backup"))
    await asyncio.wait([task], timeout=0.2)
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE_SECONDS)
    assert task.cancelled()
    assert not (tmp_path / "one.backup").exists()
