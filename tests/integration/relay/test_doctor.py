"""The relay's doctor on real relays: before the first start, while serving, and on PostgreSQL; and what it finds."""

import json
import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from fairlead_relay.doctor import Doctor
from fairlead_relay.settings import Settings
from fairlead_shared.findings import Finding
from tests.conformance.postgresql import running_postgresql
from tests.integration.bundles import config_maps, upload
from tests.integration.conftest import make_tenant
from tests.integration.relay_process import RelayProcess

DAY = 86_400.0


def examined(settings: Settings, clock: Callable[[], float] | None = None) -> dict[str, Finding]:
    """Return the findings by subject."""
    doctor = Doctor(settings) if clock is None else Doctor(settings, clock)
    doctor.examine()
    assert doctor.is_well == all(finding.passed for finding in doctor.findings)
    return {finding.subject: finding for finding in doctor.findings}


def settings_of(relay: RelayProcess, **more: str) -> Settings:
    """Return the settings that a relay process was given."""
    listen = {"api_listen": f"127.0.0.1:{relay.api_port}", "agent_listen": f"127.0.0.1:{relay.agent_port}"}
    return Settings.model_validate({"data_dir": relay.data_dir, **listen, **more})


def failed(findings: dict[str, Finding]) -> dict[str, str]:
    """Return what failed, each with what was found."""
    return {subject: finding.found for subject, finding in findings.items() if not finding.passed}


def test_before_the_first_start_all_is_well(tmp_path: Path) -> None:
    """And nothing is made."""
    settings = Settings(data_dir=tmp_path / "data", api_listen="127.0.0.1:0", agent_listen="127.0.0.1:0")
    findings = examined(settings)
    assert failed(findings) == {}
    assert {"data directory", "authority", "database", "API", "agent port"} == set(findings)
    assert list(tmp_path.iterdir()) == []


def test_beside_a_relay_that_serves(own_relay: RelayProcess) -> None:
    """Folder, keys, authority, database, bundles, agents, audit log, and both ports with their certificates."""
    make_tenant(own_relay)
    findings = examined(settings_of(own_relay))
    assert failed(findings) == {}
    assert "sqlite, schema v0" in findings["database"].found
    assert findings["keys"].found.startswith("4 files")
    assert "is ready, with a certificate for 29 days" in findings["API"].found
    assert "answers, with a certificate for 29 days" in findings["agent port"].found
    assert findings["audit log"].found.endswith("records, each as it was written")
    assert not findings["audit log"].found.startswith("0 ")
    assert findings["agents"].found == "0 enrolled, 0 connected, 0 with a certificate that lapsed"


def test_what_is_wrong_is_found_all_at_once(own_relay: RelayProcess) -> None:
    """Keys that others may read, a bundle that is gone, a record that was changed, and a relay that was killed."""
    tenant, bundle = make_tenant(own_relay), config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    (own_relay.data_dir / "blobs" / bundle.sha256[:2] / f"{bundle.sha256}.z").unlink()
    key = own_relay.data_dir / "pki" / "root.key"
    key.chmod(0o644)
    own_relay.kill()
    with sqlite3.connect(own_relay.data_dir / "relay.db") as database:
        database.execute("UPDATE audit_records SET actor_name = 'nobody' WHERE number = 2")
    findings = examined(settings_of(own_relay))
    assert set(failed(findings)) == {"keys", "bundles", "audit log", "API", "agent port"}
    assert "record 2 in the audit log" in findings["audit log"].found
    assert findings["keys"].remedy == f"chmod 600 {key}"
    assert findings["bundles"].found == f"1 of 1 are gone: {bundle.sha256[:12]}"
    assert "Connection refused" in findings["API"].found


def test_an_authority_that_ends_soon_is_found(own_relay: RelayProcess) -> None:
    """In time for a change of it; certificates of the ports that are long over, too."""
    soon = examined(settings_of(own_relay), lambda: time.time() + 5 * 365 * DAY - 30 * DAY)
    assert "valid for 29 days" in failed(soon)["authority"]
    assert "ca rotate" in soon["authority"].remedy
    (own_relay.data_dir / "pki" / "issuing.key").write_bytes(b"damaged")
    assert "issuing.key" in failed(examined(settings_of(own_relay)))["authority"]


def test_a_damaged_database_is_found(tmp_path: Path) -> None:
    """And one of a newer relay, and what is no database."""
    data = tmp_path / "data"
    relay = RelayProcess(data).start()
    relay.stop()
    settings = Settings(data_dir=data, api_listen="127.0.0.1:0", agent_listen="127.0.0.1:0")
    assert failed(examined(settings)) == {}
    with sqlite3.connect(data / "relay.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9999'")
    connection.close()
    assert failed(examined(settings)) == {}, "the newer one only added"
    with sqlite3.connect(data / "relay.db") as connection:
        connection.execute("UPDATE meta SET value = 'v9999' WHERE key = 'usable_from'")
    connection.close()
    assert "schema v9999" in failed(examined(settings))["database"]
    for leftover in ("relay.db-wal", "relay.db-shm"):
        (data / leftover).unlink(missing_ok=True)
    (data / "relay.db").write_bytes(b"no database" * 1000)
    assert "file is not a database" in failed(examined(settings))["database"]


def test_an_address_that_is_taken_is_found(tmp_path: Path) -> None:
    """By somebody else than this relay."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        findings = examined(Settings(data_dir=tmp_path / "data", api_listen=address, agent_listen="127.0.0.1:0"))
    assert failed(findings) == {"API": f"{address}: Address already in use"}


def test_on_postgresql(tmp_path: Path) -> None:
    """Well with a server, and one sentence without: no password in it."""
    with running_postgresql() as server:
        url = server.make_database()
        relay = RelayProcess(tmp_path / "data", environment={"FAIRLEAD_RELAY_DATABASE_URL": url})
        try:
            relay.start()
            findings = examined(settings_of(relay, database_url=url))
            assert failed(findings) == {}
            assert "postgresql, schema v0" in findings["database"].found
            ahead = examined(settings_of(relay, database_url=url), lambda: time.time() + 120)
            assert "its clock differs by 1" in failed(ahead)["database"]
        finally:
            relay.close()
    nobody = f"postgresql://me:hush@/relay?host={tmp_path}"
    gone = failed(
        examined(Settings(data_dir=tmp_path / "new", database_url=nobody, api_listen=":0", agent_listen=":0"))
    )
    assert set(gone) == {"database"}
    assert "hush" not in json.dumps(gone)
