"""The relay put together: how it starts, what stops it from starting, and that nothing is left behind."""

import json
import socket
from pathlib import Path

import pytest

from fairlead_relay.app import Relay
from fairlead_relay.errors import AuthorityDamaged, DataDirectoryUnusable, ListenFailed, StoreUnusable
from fairlead_relay.settings import Settings
from tests.polling import PATIENCE_SECONDS


def settings(folder: Path, **changed: object) -> Settings:
    """Return settings on free ports."""
    given = {"data_dir": folder / "data", "api_listen": "127.0.0.1:0", "agent_listen": "127.0.0.1:0"}
    return Settings.model_validate(given | changed)


async def test_start_and_stop_are_idempotent_and_complete(tmp_path: Path) -> None:
    """Ready is said once everything serves; after stop the ports are free and ready.json is gone."""
    relay = Relay(settings(tmp_path))
    await relay.start()
    await relay.start()
    ready = json.loads((tmp_path / "data" / "ready.json").read_text())
    assert ready["api_url"] == relay.settings.api_url
    port = int(relay.settings.api_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS):
        pass
    await relay.stop()
    await relay.stop()
    assert not (tmp_path / "data" / "ready.json").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)


async def test_a_relay_starts_again_with_the_same_authority(tmp_path: Path) -> None:
    """Agents that enrolled before trust it after."""
    roots = []
    for _ in range(2):
        relay = Relay(settings(tmp_path))
        await relay.start()
        await relay.stop()
        roots.append((tmp_path / "data" / "pki" / "root.pem").read_bytes())
    assert roots[0] == roots[1]


async def test_a_second_relay_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Two would each think that the other's agents are gone."""
    first, second = Relay(settings(tmp_path)), Relay(settings(tmp_path))
    await first.start()
    with pytest.raises(DataDirectoryUnusable, match="another relay runs on it"):
        await second.start()
    assert (tmp_path / "data" / "ready.json").exists()
    await first.stop()


async def test_a_port_in_use_is_named_with_the_flag_that_chooses_it(tmp_path: Path) -> None:
    """And what was started before is undone: the next start succeeds."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenFailed, match=f"{address}.*--agent-listen"):
            await Relay(settings(tmp_path, agent_listen=address)).start()
    relay = Relay(settings(tmp_path))
    await relay.start()
    await relay.stop()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Also for root, for whom nothing is unwritable: a file stands in the way."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirectoryUnusable, match="--data-dir"):
        await Relay(settings(tmp_path, data_dir=tmp_path / "file" / "data")).start()


async def test_a_damaged_authority_is_never_replaced_in_silence(tmp_path: Path) -> None:
    """A new one would lock every agent out."""
    relay = Relay(settings(tmp_path))
    await relay.start()
    await relay.stop()
    (tmp_path / "data" / "pki" / "issuing.key").unlink()
    with pytest.raises(AuthorityDamaged, match=r"issuing\.key"):
        await Relay(settings(tmp_path)).start()


async def test_a_corrupt_database_is_named(tmp_path: Path) -> None:
    """One sentence, and no traceback."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "relay.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(StoreUnusable):
        await Relay(settings(tmp_path)).start()


@pytest.mark.parametrize("address", [":0", "localhost:0"])
async def test_every_address_may_be_listened_on(tmp_path: Path, address: str) -> None:
    """Without a host it is all of them, which IPv4 clients reach too."""
    relay = Relay(settings(tmp_path, api_listen=address))
    await relay.start()
    with socket.create_connection(
        ("127.0.0.1", int(relay.settings.api_url.rpartition(":")[2])), timeout=PATIENCE_SECONDS
    ):
        pass
    await relay.stop()
