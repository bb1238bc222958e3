"""
The agent put together: the only place that builds its parts, and the order in which they start and stop.

Start: probes, policy, API server, leadership, identity, stored jobs, link, drift. A stop by signal cancels everything,
gives up leadership and leaves every job to be resumed: its checkpoint is in the cluster, its journal on disk. A replica
that loses its leadership stops in the same way and stands by.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from fairlead_agent.apply.engine import DeployEngine
from fairlead_agent.apply.inventory import InventoryStore
from fairlead_agent.bundle_cache import BundleCache
from fairlead_agent.checkpoint import CheckpointStore
from fairlead_agent.drift.environment import Means
from fairlead_agent.drift.reports import DriftReports
from fairlead_agent.drift.watcher import DriftWatcher
from fairlead_agent.errors import AgentError, KubeError, SettingsInvalid
from fairlead_agent.execution import Workshop
from fairlead_agent.health.check import HealthCheck
from fairlead_agent.identity_store import IdentityStore
from fairlead_agent.journal import Spool
from fairlead_agent.kube.access import ClusterAccess
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.gate import WriteGate
from fairlead_agent.kube.shared_watches import SharedWatches
from fairlead_agent.kube.state import StateObjects
from fairlead_agent.kube.transport import PATIENCE_SECONDS, Observe
from fairlead_agent.leadership import Leadership, ReplicaName, Term
from fairlead_agent.link import Link
from fairlead_agent.logs import Logger
from fairlead_agent.metrics import Metrics
from fairlead_agent.pages import serve_metrics, serve_probes
from fairlead_agent.patience import patiently
from fairlead_agent.policy_file import PolicyFile
from fairlead_agent.runner import Runner
from fairlead_agent.settings import Settings, variable_of
from fairlead_agent.watchdog import Watchdog, end_process

STOP_SECONDS = 15.0
"""How long a stop may take: half of the 30 s that Kubernetes gives a pod."""
RETRY_BASE_SECONDS, RETRY_CAP_SECONDS = 1.0, 30.0
"""Backoff while the API server is away at the start."""
T = TypeVar("T")


def kube_client(
    settings: Settings,
    *,
    gate: WriteGate | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
    observe: Observe = lambda *_: None,
) -> KubeClient:
    """
    Return a client of this cluster's API server with the agent's own rights.

    Args:
        settings: Where it is.
        gate: What every write passes.
        patience_seconds: How long one request is tried again.
        observe: Called after each try of a request.
    Raises: Unreachable: the settings are not those of a pod.
    """
    variables = {
        "KUBERNETES_SERVICE_HOST": settings.kubernetes_host,
        "KUBERNETES_SERVICE_PORT": str(settings.kubernetes_port),
    }
    access = ClusterAccess.in_cluster(variables, settings.service_account_dir)
    return KubeClient(access, patience_seconds=patience_seconds, gate=gate, observe=observe)


def state_objects(client: KubeClient, settings: Settings) -> StateObjects:
    """Return the agent's own namespace as a store. Raises: SettingsInvalid: nothing names it."""
    return StateObjects(client, own_namespace(settings))


def own_namespace(settings: Settings) -> str:
    """Return the agent's own namespace. Raises: SettingsInvalid: nothing names it."""
    return settings.state_namespace or _read_namespace(settings.service_account_dir / "namespace")


class Agent:
    """
    One agent process.

    Args:
        settings: What it was told.
        logger: The root logger.
    Raises: PolicyInvalid: the policy file cannot be used.
    """

    def __init__(self, settings: Settings, logger: Logger) -> None:
        self._settings = settings
        self._logger = logger
        self._policy = PolicyFile(settings.policy_file, logger)
        self._link: Link | None = None
        self._leadership: Leadership | None = None
        self._runner: Runner | None = None
        self._identities: IdentityStore | None = None
        self._client: KubeClient | None = None
        self._drift: DriftWatcher | None = None
        self._reports: DriftReports | None = None
        self._phase = "starting"
        self._metrics = Metrics(
            connected=lambda: self._link is not None and self._link.is_connected,
            leading=lambda: self._link is not None,
            jobs=lambda: 0 if self._runner is None else len(self._runner.hello_jobs()),
            certificate_ends=lambda: 0.0 if self._identities is None else self._identities.certificate_ends,
            kube_watches=lambda: 0 if self._client is None else self._client.transport.watches,
            drift_watches=lambda: 0 if self._drift is None else self._drift.watches,
            drifted=lambda: 0 if self._reports is None else self._reports.drifted_objects,
        )

    async def run(self) -> None:
        """
        Run until a signal asks to stop.

        Raises: AgentError: it cannot go on, for example EnrolmentRefused. OSError: a port or the spool cannot be used.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        watchdog = Watchdog(end_process)
        watchdog.start()
        work = asyncio.create_task(self._work(), name="agent")
        asked = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not work.done():
            self._logger.info("agent.stopping")
            work.cancel()
            _, late = await asyncio.wait({work}, timeout=STOP_SECONDS)
            if late:
                self._logger.warning("agent.stopped_hard", seconds=STOP_SECONDS)
        watchdog.stop()
        if work.done() and not work.cancelled():
            work.result()

    async def _work(self) -> None:
        replica = ReplicaName(self._settings.spool_dir, self._settings.replica)
        try:
            async with (
                serve_probes(self._settings.probe_port, self._readiness),
                serve_metrics(self._settings.metrics_port, self._metrics.render),
                # Renewals get a client of their own: they must never wait behind sixteen slow requests.
                kube_client(self._settings, patience_seconds=0, observe=self._metrics.kube_answered) as client,
            ):
                namespace = own_namespace(self._settings)
                leadership = self._leadership = Leadership(client, namespace, str(replica), self._logger)
                while True:
                    await self._lead(await leadership.acquire())
        except BaseExceptionGroup as group:
            raise _first_of(group) from group
        finally:
            replica.close()

    async def _lead(self, term: Term) -> None:
        """Work for one term: returns when it is lost. Nothing of the work is left then, least of all a write."""
        holding = asyncio.create_task(term.hold(), name="lease")
        work = asyncio.create_task(self._serve(term), name="agent/term")
        try:
            await asyncio.wait({holding, work}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # The lease is renewed until the last write has ended: only then may the next replica begin.
            work.cancel()
            await asyncio.wait({work})
            holding.cancel()
            await asyncio.wait({holding})
            self._link = self._runner = self._client = self._drift = self._reports = None
            await term.release()
        if holding.done() and not holding.cancelled():
            holding.result()
        if not work.cancelled():
            work.result()
        self._phase = "standing by: the lease was lost"

    async def _serve(self, term: Term) -> None:
        async with (
            kube_client(self._settings, gate=term, observe=self._metrics.kube_answered) as client,
            SharedWatches(client) as watches,
        ):
            self._client = client
            await self._work_with(client, watches, term)

    async def _work_with(self, client: KubeClient, watches: SharedWatches, term: Term) -> None:
        state = state_objects(client, self._settings)
        identities = self._identities = IdentityStore(state)
        inventory = InventoryStore(state)
        self._phase = "reading the agent's identity from the API server"
        version = await self._patiently(client.version)
        await self._patiently(lambda: inventory.claim(term.name))
        await self._patiently(identities.open)
        reports = self._reports = DriftReports(time.time, self._logger)
        link = self._link = Link(
            self._settings,
            identities,
            reports,
            version,
            self._logger,
            leading=term.opened,
            welcomed=self._metrics.connection_opened,
        )
        bundles = BundleCache(self._settings.spool_dir / "bundles", link)
        drift = self._drift = DriftWatcher(
            Means(
                client,
                watches,
                inventory,
                bundles,
                identities.unsealer,
                reports,
                time.time,
                self._logger,
                looked=self._metrics.drift_looked,
                corrected=self._metrics.drift_corrected,
            ),
            self._policy,
        )
        workshop = Workshop(
            policy=self._policy,
            identities=identities,
            checkpoints=CheckpointStore(state, self._logger),
            bundles=bundles,
            engine=DeployEngine(client, inventory, time.time, watches),
            health=HealthCheck(client, inventory, time.time),
            replay=inventory,
            drift=drift,
            courier=link,
            clock=time.time,
            logger=self._logger,
            metrics=self._metrics,
            is_over=lambda: term.is_over,
        )
        spool = Spool(self._settings.spool_dir / "events")
        if not term.continues:
            # Another replica may have told other steps under the same numbers: what it left is derived again.
            spool.discard_others(set())
        runner = self._runner = Runner(workshop, spool)
        checkpoints = await self._patiently(workshop.checkpoints.load_all)
        async with asyncio.TaskGroup() as group:
            resumed = asyncio.Event()
            group.create_task(runner.run(checkpoints, resumed), name="runner")
            await resumed.wait()
            group.create_task(link.run(runner), name="link")
            group.create_task(drift.run(), name="drift")

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call the API server until it answers: it may come up after us, and restarts by itself."""

        def failed(error: BaseException) -> None:
            self._phase = str(error)
            self._logger.warning("kube.unreachable", error=str(error))

        return await patiently(
            call,
            passes=lambda error: isinstance(error, KubeError) and error.temporary,
            failed=failed,
            base_seconds=RETRY_BASE_SECONDS,
            cap_seconds=RETRY_CAP_SECONDS,
        )

    def _readiness(self) -> tuple[bool, str]:
        if self._link is None:
            leader = "" if self._leadership is None else self._leadership.leader
            return bool(leader), f"standing by: {leader} leads" if leader else self._phase
        return self._link.is_connected, self._link.state


def _read_namespace(path: Path) -> str:
    with contextlib.suppress(OSError):
        namespace = path.read_text(encoding="ascii").strip()
        if namespace:
            return namespace
    raise SettingsInvalid("state_namespace", variable_of("state_namespace"), f"is not set, and {path} cannot be read")


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that ended the task groups: ours before any other."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    return next((leaf for leaf in leaves if isinstance(leaf, AgentError)), leaves[0])
