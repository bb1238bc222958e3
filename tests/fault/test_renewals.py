"""Short-lived certificates under a steady stream of deployments, with a change of the CA in the middle."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fault.renewing_fleet import RenewingFleet
from tests.fault.scale import scaled
from tests.integration.relay_process import RelayProcess

AGENTS = scaled(4, 10)
CERTIFICATE_SECONDS = scaled(30, 60)
RENEWALS = scaled(8, 40)


@pytest.mark.timeout(scaled(480, 900))
async def test_renewals_and_a_change_of_the_ca_cost_no_job_and_no_connection(
    own_relay: RelayProcess, tmp_path: Path
) -> None:
    """Every deployment succeeds at the first attempt, over the first connection of its agent."""
    own_relay.kill()
    own_relay.environment["FAIRLEAD_RELAY_CERTIFICATE_SECONDS"] = str(CERTIFICATE_SECONDS)
    await asyncio.to_thread(own_relay.start)
    fleet = RenewingFleet(own_relay, tmp_path, AGENTS)
    await fleet.start()
    try:
        await fleet.work_until(RENEWALS // 2)
        await fleet.change_authority()
        await fleet.work_until(RENEWALS)
        fleet.assert_nothing_was_lost()
    finally:
        await fleet.stop()
