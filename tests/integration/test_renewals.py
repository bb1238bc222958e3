"""Short-lived certificates under a steady stream of deployments, with a change of the CA in the middle."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.integration.relay_process import RelayProcess
from tests.integration.renewing_fleet import RenewingFleet


async def test_renewals_and_a_change_of_the_ca_cost_no_job_and_no_connection(
    own_relay: RelayProcess, tmp_path: Path
) -> None:
    """Twenty renewals of four agents: every deployment succeeds at the first attempt, over the first connection."""
    own_relay.kill()
    own_relay.environment["FAIRLEAD_RELAY_CERTIFICATE_SECONDS"] = "10"
    await asyncio.to_thread(own_relay.start)
    fleet = RenewingFleet(own_relay, tmp_path, agents=4)
    await fleet.start()
    try:
        await fleet.work_until(renewals=8)
        await fleet.change_authority()
        await fleet.work_until(renewals=20)
        fleet.assert_nothing_was_lost()
    finally:
        await fleet.stop()
