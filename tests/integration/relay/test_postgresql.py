"""The whole relay on a real PostgreSQL server: the path that tests elsewhere take on SQLite."""

import asyncio
from pathlib import Path

from tests.conformance.postgresql import running_postgresql
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import make_tenant
from tests.integration.relay_process import RelayProcess
from tests.polling import eventually


async def test_a_deployment_survives_a_killed_relay_on_postgresql(tmp_path: Path) -> None:
    """Asked for, the relay killed and started again, then carried out: all of it is in the database."""
    with running_postgresql() as server:
        relay = RelayProcess(tmp_path / "data", environment={"FAIRLEAD_RELAY_DATABASE_URL": server.make_database()})
        try:
            await asyncio.to_thread(relay.start)
            tenant = await asyncio.to_thread(make_tenant, relay)
            agent = await tenant.enrol()
            bundle = config_maps()
            await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
            made = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
            relay.kill()
            await asyncio.to_thread(relay.start)
            async with agent.connect() as connection:
                offer = await connection.wait_offer()
                await connection.accept(offer)
                assert await connection.fetch(bundle.sha256) == bundle.content
                await connection.finish(offer.job_id, offer.token)

            async def has_succeeded() -> bool:
                shown = await tenant.ask("GET", f"{tenant.path}/deployments/{made['id']}")
                return shown["state"] == "succeeded"  # type: ignore[index, no-any-return]

            await eventually(has_succeeded, "the deployment to succeed")
            assert not (relay.data_dir / "relay.db").exists()
        finally:
            relay.close()
