"""A disk that is full, a database that is away, damaged or gone: said clearly, nothing lost, and mended as can be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from fairlead_relay.commands.root import cli
from fairlead_relay.errors import StoreDamaged
from fairlead_relay.store import Store
from fairlead_relay.store.meta import store_epoch
from fairlead_relay.store.organizations import Organization, ensure_organization
from fairlead_shared.frames import HelloJob
from tests.conformance.postgresql import running_postgresql
from tests.fault.scale import scaled
from tests.integration.bundles import config_maps, deployment_id, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.relay_process import RelayProcess
from tests.polling import PATIENCE_SECONDS, eventually, wait_until

DISK_MIB = 24
AWAY_SECONDS = float(scaled(3, 30))


def ask(tenant: Tenant, sha256: str) -> tuple[int, dict[str, Any]]:
    """Ask for a deployment."""
    body = {"deployment_id": deployment_id(), "bundle_sha256": sha256}
    answer = tenant.deployer.post(f"{tenant.environment}/deployments", json=body)
    if answer.status_code == 503:
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["code"] == "unavailable"
    return answer.status_code, answer.json()


def stored(tenant: Tenant) -> set[str]:
    """Return the ids of the environment's deployments."""
    page = tenant.viewer.ask("GET", f"{tenant.environment}/deployments?limit=500")
    return {one["id"] for one in page["items"]}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    size = f"size={DISK_MIB}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], check=True, timeout=PATIENCE_SECONDS)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True, timeout=PATIENCE_SECONDS)


@pytest.fixture
def tenant(disk: Path) -> Iterator[Tenant]:
    """Run a relay whose data directory is on the small disk."""
    relay = RelayProcess(disk / "data")
    relay.start()
    yield make_tenant(relay)
    relay.close()


def fill(disk: Path) -> None:
    """Leave no room."""
    with (disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass


def test_a_full_disk(tenant: Tenant, disk: Path) -> None:
    """What cannot be stored is refused for now; what was accepted is there; it goes on as soon as there is room."""
    bundle = config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    accepted = {ask(tenant, bundle.sha256)[1]["id"]}
    fill(disk)
    for _ in range(500):
        # SQLite may still have room inside of its files.
        status, answer = ask(tenant, bundle.sha256)
        if status == 503:
            break
        accepted.add(answer["id"])
    else:
        pytest.fail("the disk did not fill up")
    large = config_maps(20, size_bytes=100_000)
    refused = tenant.deployer.put(f"{tenant.path}/bundles/{large.sha256}", content=large.content)
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert stored(tenant) == accepted
    assert "disk is full" in tenant.relay.log.read_text()
    (disk / "ballast").unlink()
    status, answer = ask(tenant, bundle.sha256)
    assert status == 202
    upload(tenant.deployer, tenant.organization, large)
    assert stored(tenant) == accepted | {answer["id"]}


def test_a_disk_that_is_read_only(tenant: Tenant, disk: Path) -> None:
    """The relay does not start on it, and says why in one sentence; once it is mended, all is there."""
    bundle = config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    accepted = {ask(tenant, bundle.sha256)[1]["id"]}
    tenant.relay.stop()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=PATIENCE_SECONDS)
    serve = [sys.executable, "-m", "fairlead_relay", "serve", "--data-dir", str(disk / "data"), "--api-listen", ":0"]
    ended = subprocess.run(serve, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert ended.returncode == 1
    (sentence,) = ended.stderr.splitlines()
    assert sentence.startswith("Error: ")
    assert "Read-only file system" in sentence or "no right to write in it" in sentence
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True, timeout=PATIENCE_SECONDS)
    tenant.relay.start()
    assert stored(tenant) == accepted


def damage(file: Path) -> None:
    """Write nonsense over everything in an SQLite file but its head."""
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    with file.open("r+b") as content:
        content.seek(4096)
        content.write(os.urandom(max(0, file.stat().st_size - 4096)))


def test_a_file_that_is_damaged_while_the_relay_serves(tenant: Tenant, disk: Path, tmp_path: Path) -> None:
    """It is said everywhere, nothing more is written, no start is allowed, and a backup brings back what it holds."""
    bundle = config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    accepted = {ask(tenant, bundle.sha256)[1]["id"]}
    data, backup = disk / "data", tmp_path / "relay.backup"
    command = ["backup", "--data-dir", str(data), "--output", str(backup)]
    assert CliRunner().invoke(cli, command).exit_code == 0
    damage(data / "relay.db")

    def is_found() -> bool:
        # What SQLite has in its memory is good; a write has the readers look at the file again.
        ask(tenant, bundle.sha256)
        return tenant.viewer.get("/readyz").status_code == 503

    wait_until(is_found, "the damage to be found")
    files = [data / "relay.db", data / "relay.db-wal"]
    left = [file.read_bytes() for file in files]
    for answer in (
        tenant.viewer.get("/readyz"),
        tenant.viewer.get(f"{tenant.environment}/deployments"),
        tenant.deployer.post(f"{tenant.path}/applications", json={"name": "other"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "database is damaged" in answer.json()["detail"]
    assert tenant.relay.log.read_text().count("store damaged") == 1
    found = CliRunner().invoke(cli, ["doctor", "--data-dir", str(data)])
    assert found.exit_code == 1
    assert "move the file away" in found.stdout
    tenant.relay.kill()
    assert [file.read_bytes() for file in files] == left
    serve = [sys.executable, "-m", "fairlead_relay", "serve", "--data-dir", str(data), "--api-listen", ":0"]
    ended = subprocess.run(serve, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.count("the database is damaged")) == (1, 1)
    for file in data.glob("relay.db*"):
        file.unlink()
    restored = CliRunner().invoke(cli, ["restore", "--data-dir", str(data), str(backup)])
    assert restored.exit_code == 0, restored.output
    tenant.relay.start()
    assert stored(tenant) == accepted


async def test_what_shares_a_commit_with_a_write_that_finds_damage_is_not_stored(tmp_path: Path) -> None:
    """Nor is anything afterwards, nor read: each caller gets the error."""
    store = Store(f"sqlite:///{tmp_path}/relay.db", lambda *_: None)
    await store.start()
    corrupt = sqlite3.DatabaseError("database disk image is malformed")
    corrupt.sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    def find_damage(_: Connection) -> None:
        raise DatabaseError("SELECT", {}, corrupt)

    def add(name: str) -> Callable[[Connection], Organization]:
        return lambda connection: ensure_organization(connection, name, 0.0)

    try:
        await store.write(add("before"))
        writes = (store.write(add("beside")), store.write(find_damage), store.write(add("behind")))
        answers = await asyncio.gather(*writes, return_exceptions=True)
        # The first may have been on its way alone.
        assert [type(answer) for answer in answers[1:]] == [StoreDamaged, StoreDamaged]
        with pytest.raises(StoreDamaged):
            await store.write(add("after"))
        with pytest.raises(StoreDamaged):
            await store.read(store_epoch)
    finally:
        await store.stop()
    with sqlite3.connect(tmp_path / "relay.db") as database:
        names = {name for (name,) in database.execute("SELECT name FROM organizations")}
    database.close()
    assert names == {"before"} | ({"beside"} if isinstance(answers[0], Organization) else set())


async def test_a_database_that_is_away(tmp_path: Path) -> None:
    """Its server crashes and comes back while a job runs: the API says so, and the job ends as if nothing had been."""
    with running_postgresql() as server:
        relay = RelayProcess(tmp_path / "data", environment={"FAIRLEAD_RELAY_DATABASE_URL": server.make_database()})
        try:
            # The server must be started by this thread: it ends with the thread that started it.
            relay.start()
            tenant = await asyncio.to_thread(make_tenant, relay)
            agent = await tenant.enrol()
            bundle = config_maps()
            await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
            _, made = await asyncio.to_thread(ask, tenant, bundle.sha256)
            async with agent.connect() as connection:
                offer = await connection.wait_offer()
                await connection.accept(offer)
                server.crash()
                ends = asyncio.get_running_loop().time() + AWAY_SECONDS

                async def is_refused() -> bool:
                    return (await asyncio.to_thread(ask, tenant, bundle.sha256))[0] == 503

                await eventually(is_refused, "the API to say that its store is away")
                while asyncio.get_running_loop().time() < ends:
                    assert await is_refused()
            server.start()

            async def is_ready() -> bool:
                return (await asyncio.to_thread(tenant.viewer.get, "/readyz")).status_code == 200

            await eventually(is_ready, "the relay to be ready again")
            listed = [HelloJob(job_id=offer.job_id, attempt=offer.attempt, token=offer.token, last_seq=0)]
            async with agent.connect(listed) as connection:
                (verdict,) = connection.welcome.jobs
                assert (verdict.verdict, verdict.acknowledged_seq) == ("continue", 0)
                connection.wire.leases[offer.job_id] = offer.token
                connection.wire.session.start_stream(offer.job_id, 0)
                await connection.finish(offer.job_id, offer.token)
            shown = await tenant.ask("GET", f"{tenant.path}/deployments/{made['id']}")
            assert isinstance(shown, dict)
            assert (shown["state"], shown["job"]["attempt"]) == ("succeeded", 1)
            status, _ = await asyncio.to_thread(ask, tenant, bundle.sha256)
            assert status == 202
        finally:
            relay.close()
