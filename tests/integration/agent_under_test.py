"""The agent's link and runner in the test's own loop, on state that outlives a restart. The engine is in memory."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from pydantic import SecretStr

from fairlead_agent.apply.inventory import InventoryStore
from fairlead_agent.bundle_cache import BundleCache
from fairlead_agent.checkpoint import CheckpointStore
from fairlead_agent.drift.reports import DriftReports
from fairlead_agent.execution import Workshop
from fairlead_agent.identity_store import IdentityStore
from fairlead_agent.journal import Spool
from fairlead_agent.link import Link
from fairlead_agent.logs import Logger
from fairlead_agent.metrics import Metrics
from fairlead_agent.policy_file import PolicyFile
from fairlead_agent.ports import EnvironmentKey, Identity, StateKind
from fairlead_agent.runner import Runner
from fairlead_agent.settings import Settings
from fairlead_agent.transport_choice import Transport, TransportChoice
from fairlead_shared.bundle import Bundle, make_bundle
from tests.integration.agent_state import MemoryEngine, MemoryState
from tests.integration.relay_address import RelayAddress
from tests.integration.scripted_relay import ScriptedRelay

POLICY = """
bindings:
  - namespace: shop
    environments: [{organization: acme, application: shop, environment: staging, type: staging}]
"""


class Only(TransportChoice):
    """Has no choice."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(random.random)
        self._transport = transport

    def next(self, now: float) -> Transport:
        """Return it."""
        return self._transport

    def poll_seconds_left(self, now: float) -> float:
        """Return a time beyond any test."""
        return 3600.0


class AgentUnderTest:
    """
    One agent: start it, stop it, start it again.

    Args:
        relay: Whom it dials.
        directory: Of its own.
    """

    def __init__(self, relay: ScriptedRelay | RelayAddress, directory: Path) -> None:
        self.relay = relay
        self.directory = directory
        self.state = MemoryState()
        self.engine = MemoryEngine()
        self.token_file = directory / "token"
        self.policy_file = directory / "policy.yaml"
        self.policy_file.write_text(POLICY)
        self.token_file.write_text(relay.token())
        self.token_hold_seconds = 0.0
        self.https_proxy = ""
        self.inspected_by: Path | None = None
        """The CA of what inspects TLS, where the operator allows that."""
        self.only: Transport | None = None
        """The one transport to use, whatever happens; None: as the agent chooses."""
        self.url: str | None = None
        self.clock: Callable[[], float] = time.time
        self.task: asyncio.Task[None] | None = None
        self.link: Link | None = None
        self.runner: Runner | None = None
        self.drift: DriftReports | None = None
        self.let_go: list[EnvironmentKey | None] = []
        """Environments that jobs had drift let go of, and None for each that was taken up again."""
        self.identities: IdentityStore | None = None

    @asynccontextmanager
    async def held(self, environment: EnvironmentKey) -> AsyncIterator[dict[Identity, bytes]]:
        """Let jobs work: nothing is watched here."""
        self.let_go.append(environment)
        yield {}
        self.let_go.append(None)

    @property
    def spool(self) -> Path:
        """Where journals and bundles are."""
        return self.directory / "spool"

    def checkpoints(self) -> list[str]:
        """Return the names of the jobs' checkpoints."""
        return [name for name in self.state.names(StateKind.CONFIG_MAP) if name.startswith("fairlead-job-")]

    async def start(self) -> None:
        """Start it; returns once stored jobs were resumed."""
        settings = Settings(
            relay_url=self.url or self.relay.url,
            policy_file=self.policy_file,
            enrolment_token_file=self.token_file,
            https_proxy=SecretStr(self.https_proxy),
            ca_bundle_file=self.inspected_by,
            tls_inspection=self.inspected_by is not None,
            kubernetes_host="none",
            token_hold_seconds=self.token_hold_seconds,
            replica="pod-1",
        )
        logger: Logger = structlog.get_logger()
        self.identities = IdentityStore(self.state)
        await self.identities.open()
        self.drift = DriftReports(time.time, logger)
        self.link = Link(settings, self.identities, self.drift, "v1.37.2", logger, clock=self.clock)
        if self.only is not None:
            self.link._approach.choice = Only(self.only)
        self.engine.inventory = InventoryStore(self.state)
        workshop = Workshop(
            policy=PolicyFile(self.policy_file, logger),
            identities=self.identities,
            checkpoints=CheckpointStore(self.state, logger),
            bundles=BundleCache(self.spool / "bundles", self.link),
            engine=self.engine,
            health=self.engine,
            replay=self.engine.inventory,
            drift=self,
            courier=self.link,
            clock=time.time,
            logger=logger,
            metrics=Metrics(),
        )
        self.runner = Runner(workshop, Spool(self.spool / "events"))
        checkpoints = await workshop.checkpoints.load_all()
        resumed = asyncio.Event()

        async def work(link: Link, runner: Runner) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(runner.run(checkpoints, resumed))
                await resumed.wait()
                group.create_task(link.run(runner))

        self.task = asyncio.create_task(work(self.link, self.runner))
        await resumed.wait()

    async def stop(self) -> None:
        """Stop it as SIGTERM would; raises what ended it before."""
        if self.task is not None:
            task, self.task = self.task, None
            task.cancel()
            await asyncio.wait([task], timeout=10)
            if not task.cancelled():
                task.result()


def bundle_of(count: int, size: int = 10) -> Bundle:
    """Make a bundle of ConfigMaps in namespace shop, each with `size` bytes of content."""
    return make_bundle(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"part-{number:05d}", "namespace": "shop"},
            "data": {"content": "x" * size},
        }
        for number in range(count)
    )
