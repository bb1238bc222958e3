"""What a waiting job is said to wait for, seen through the real API."""

from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant


async def test_a_deployment_behind_another_names_it(tenant: Tenant) -> None:
    """With its agent connected, what a deployment waits for is the one before it."""
    agent = await tenant.enrol()
    bundle = config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    async with agent.connect() as connection:
        first = deploy(tenant.deployer, tenant.environment, bundle)
        second = deploy(tenant.deployer, tenant.environment, bundle)
        await connection.wait_offer()
        shown = tenant.viewer.ask("GET", f"{tenant.path}/deployments/{second['id']}")
    assert shown["reason"] == f"waits for deployment {first['id']} of the same environment"
