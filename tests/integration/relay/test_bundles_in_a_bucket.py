"""A whole relay whose bundles are in a bucket of a real S3 server: uploaded, fetched, moved; and the server away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairlead_relay.commands.root import cli
from fairlead_relay.doctor import Doctor
from fairlead_relay.settings import Settings
from fairlead_relay.store.blobs import DirectoryBlobs
from tests.conformance.s3_server import CREDENTIALS, S3Server, running_s3
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import make_tenant
from tests.integration.relay_process import RelayProcess


@dataclass
class Place:
    """A relay, and the server with its bucket."""

    relay: RelayProcess
    server: S3Server
    bucket: str

    def bundles(self) -> tuple[bool, str]:
        """Return what the doctor says of bundles: whether all is well, and what it found."""
        doctor = Doctor(Settings(data_dir=self.relay.data_dir, blobs_url=self.bucket))
        doctor.examine()
        (found,) = (finding for finding in doctor.findings if finding.subject == "bundles")
        return found.passed, found.found


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """Start both; this process has the credentials, too."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with running_s3() as server:
        bucket = server.make_bucket()
        relay = RelayProcess(tmp_path / "relay", environment={"FAIRLEAD_RELAY_BLOBS_URL": bucket})
        try:
            await asyncio.to_thread(relay.start)
            yield Place(relay, server, bucket)
        finally:
            relay.close()


async def test_a_bundle_goes_by_the_bucket_to_the_agent(place: Place, tmp_path: Path) -> None:
    """Also after the server was away in between; a backup holds it and moves it to a folder."""
    tenant = await asyncio.to_thread(make_tenant, place.relay)
    bundle = config_maps(count=200, size_bytes=10_000)
    agent = await tenant.enrol()
    async with agent.connect() as connection:
        await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
        await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
        offer = await connection.wait_offer()
        await connection.accept(offer)
        place.server.crash()
        fetching = asyncio.create_task(connection.fetch(bundle.sha256))
        passed, found = await asyncio.to_thread(place.bundles)
        assert not passed
        assert "the bucket 'bundles-1' for bundles (FAIRLEAD_RELAY_BLOBS_URL) does not answer" in found
        await asyncio.to_thread(place.server.start)
        assert await fetching == bundle.content
        await connection.finish(offer.job_id, offer.token)
    assert await asyncio.to_thread(place.bundles) == (True, "1, all there")
    assert not (place.relay.data_dir / "blobs").exists()

    file, new = tmp_path / "relay.backup", tmp_path / "new"
    variables = {"FAIRLEAD_RELAY_BLOBS_URL": place.bucket}
    arguments = ["backup", "--data-dir", str(place.relay.data_dir), "--output", str(file)]
    assert (await asyncio.to_thread(CliRunner().invoke, cli, arguments, env=variables)).exit_code == 0
    restored = await asyncio.to_thread(CliRunner().invoke, cli, ["restore", "--data-dir", str(new), str(file)])
    assert restored.exit_code == 0, restored.output
    assert b"".join(DirectoryBlobs(new / "blobs").read(bundle.sha256)) == bundle.content
