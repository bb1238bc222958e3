"""Check: the health of everything an environment owns, once, for `health` jobs."""

from __future__ import annotations

from functools import partial

from fairlead_agent.apply.inventory import InventoryStore
from fairlead_agent.apply.masking import Mask
from fairlead_agent.errors import UnknownKind
from fairlead_agent.health.observer import Observer
from fairlead_agent.health.targets import Target
from fairlead_agent.health.verdict import Verdict
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.watch import Watch
from fairlead_agent.ports import Clock, EnvironmentKey
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import HealthEvent, HealthStatus


class HealthCheck:
    """Implements ports.HealthPort."""

    def __init__(self, client: KubeClient, inventory: InventoryStore, clock: Clock) -> None:
        self._client = client
        self._inventory = inventory
        self._clock = clock

    async def check(self, environment: EnvironmentKey) -> list[HealthEvent]:
        """
        Return the health of each object the environment keeps, in the inventory's order; empty if it keeps nothing.

        Raises: KubeError: the API server is away. What may not be seen is Unknown, with the missing rule.
        """
        verdicts: dict[ObjectRef, Verdict] = {}
        targets: list[Target] = []
        owned = (await self._inventory.load(environment)).objects
        refs = [one.ref for one in owned if not one.hook]
        for ref in refs:
            try:
                targets.append(Target(ref, await self._client.resolve(ref.api_version, ref.kind)))
            except UnknownKind as error:
                verdicts[ref] = Verdict(HealthStatus.MISSING, str(error))
        observer = Observer(partial(Watch, self._client), targets)
        await observer.look()
        now = self._clock()
        mask = Mask()
        verdicts |= {target.ref: verdict for target, verdict in observer.verdicts(now).items()}
        if any(verdict.cause for verdict in verdicts.values()):
            await mask.add_live(self._client, refs)
        return [
            HealthEvent(
                key=f"health/{ref}/{verdicts[ref].status}/1",
                at=now,
                object=ref,
                status=verdicts[ref].status,
                cause=mask.hide(verdicts[ref].cause)[:4000],
            )
            for ref in refs
        ]
