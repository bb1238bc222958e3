"""
The relay put together: the only place that builds its parts, and the order in which they start and stop.

Start: data directory, listeners, certificates, store, dispatcher, agent port, API; then it says that it is ready. Stop:
agents are told, streams end, requests finish, connections close, and the store last: whatever was answered is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import structlog

from fairlead_relay import __version__
from fairlead_relay.api.application import make_api
from fairlead_relay.api.metrics_page import make_metrics_page
from fairlead_relay.api.rate_limits import RateLimits
from fairlead_relay.api.server import ApiServer
from fairlead_relay.api.services import Services
from fairlead_relay.backup.schedule import Backups, in_a_process
from fairlead_relay.bus import LocalBus, SharedBus
from fairlead_relay.data_directory import DataDirectory
from fairlead_relay.dispatch import Dispatcher, DispatchHooks, DispatchLimits
from fairlead_relay.errors import AuthorityDamaged, ListenFailed
from fairlead_relay.gateway.credentials import Identities
from fairlead_relay.gateway.link import LinkPorts
from fairlead_relay.gateway.server import Gateway
from fairlead_relay.housekeeping import Housekeeping
from fairlead_relay.metrics import Metrics
from fairlead_relay.pki.authority import CertificateAuthority
from fairlead_relay.pki.server_tls import ServerTls
from fairlead_relay.planning.bundle_check import BundleChecker
from fairlead_relay.planning.bundle_library import BundleLibrary
from fairlead_relay.planning.deployments import Planner
from fairlead_relay.settings import Settings, parse_listen
from fairlead_relay.store import Store
from fairlead_relay.store.blobs import open_blobs
from fairlead_relay.store.engines import is_shared, parse_url
from fairlead_relay.store.outbox import Notice

BACKLOG = 1024
"""Connections that wait to be accepted: a reconnect storm comes faster than handshakes are served."""
AUTHORITY_CHECK_SECONDS = 2.0
"""How soon a change of the CA by `fairlead-relay ca` is taken up; looking costs one listing of a small folder."""

_DAY_SECONDS = 86_400.0
_HOUR_SECONDS = 3600.0

_log = structlog.get_logger(__name__)


class Relay:
    """
    One relay process's parts.

    Args:
        settings: As given; the URLs that were left empty are filled in by start().

    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._parts = contextlib.AsyncExitStack()
        self._started = False

    async def start(self) -> None:
        """
        Start every part; ready to serve on return. What was started is stopped again if a later part fails.

        Raises: RelayError: one sentence that says what is in the way.
        """
        if self._started:
            return
        self._started = True
        try:
            await self._start()
        except BaseException:
            await self._parts.aclose()
            raise

    async def stop(self) -> None:
        """Stop every part in reverse order; idempotent, complete on return."""
        await self._parts.aclose()

    async def _start(self) -> None:
        parts = self._parts
        directory = DataDirectory(self.settings.data_dir)
        directory.hold()
        parts.callback(directory.release)
        api_listener = parts.enter_context(_listen(self.settings.api_listen, "--api-listen"))
        agent_listener = parts.enter_context(_listen(self.settings.agent_listen, "--agent-listen"))
        metrics_listener = None
        if self.settings.metrics_listen:
            metrics_listener = parts.enter_context(
                _listen(self.settings.metrics_listen, "FAIRLEAD_RELAY_METRICS_LISTEN")
            )
        settings = self.settings = self.settings.with_urls(
            api_listener.getsockname()[1], agent_listener.getsockname()[1]
        )
        authority = CertificateAuthority.open(
            settings.authority, time.time, timedelta(seconds=settings.certificate_seconds)
        )
        tls = ServerTls(authority, settings.certificate_names, directory.server_certificate, time.time)
        tls.renew_if_due()

        metrics = Metrics()
        bus = LocalBus()
        store = await self._open_store(bus, metrics)
        blobs = await asyncio.to_thread(open_blobs, settings.blobs_url, settings.database, directory.blobs)
        parts.callback(blobs.close)
        limits = DispatchLimits(lease_seconds=settings.lease_seconds, jobs_per_agent=settings.jobs_per_agent)
        checker = BundleChecker()
        parts.callback(checker.stop)
        library = BundleLibrary(store, blobs, checker)
        planner = Planner(store, authority.signer, time.time, library.namespaces_of)
        hooks = DispatchHooks(leased=metrics.dispatched, failed=planner.roll_back_failed)
        dispatcher = Dispatcher(
            store, bus, directory.relay_id(), time.time, limits, structlog.get_logger("dispatch"), hooks
        )
        metrics.count_agents(lambda: dispatcher.connected)
        await dispatcher.start()
        parts.push_async_callback(dispatcher.stop)

        ports = LinkPorts(
            store=store,
            blobs=blobs,
            dispatcher=dispatcher,
            identities=Identities.of(store, authority, time.time, metrics.refused),
            monotonic=time.monotonic,
            store_epoch=store.epoch,
            heartbeat_seconds=settings.heartbeat_seconds,
            on_refused=metrics.refused,
        )
        gateway = Gateway(
            tls.agent_port,
            ports,
            settings.unidentified_per_minute,
            settings.connection_max_age_seconds,
            tls_inspection=settings.tls_inspection,
        )
        await gateway.start(agent_listener)
        parts.push_async_callback(gateway.stop)

        stopping = asyncio.Event()
        services = Services(
            store=store,
            blobs=blobs,
            bus=bus,
            authority=authority,
            library=library,
            planner=planner,
            settings=settings,
            clock=time.time,
            monotonic=time.monotonic,
            limits=RateLimits(settings.requests_per_minute, settings.failures_per_minute),
            metrics=metrics,
            stopping=stopping,
        )
        api = ApiServer(make_api(services), tls.api if settings.api_tls else None)
        await api.start(api_listener)
        parts.push_async_callback(api.stop)
        await self._count(metrics, store, metrics_listener)
        housekeeping = Housekeeping(store, blobs, settings.history_days * _DAY_SECONDS, time.time)
        self._back_up(metrics)
        tidying = asyncio.create_task(housekeeping.tidy_regularly(), name="housekeeping")
        parts.push_async_callback(_end, tidying)
        renewal = asyncio.create_task(_keep_authority(authority, tls, gateway), name="keep-authority")
        parts.push_async_callback(_end, renewal)
        # Last in, first out: these two are what a drain begins with.
        parts.callback(stopping.set)
        parts.callback(gateway.go_away)

        directory.say_ready(settings.api_url, settings.agent_url, _address(api_listener), _address(agent_listener))
        _log.info(
            "relay ready",
            version=__version__,
            api_url=settings.api_url,
            agent_url=settings.agent_url,
            metrics_port=None if metrics_listener is None else metrics_listener.getsockname()[1],
        )

    def _back_up(self, metrics: Metrics) -> None:
        """Write backups, if somebody named a folder for them."""
        settings = self.settings
        if settings.backup_dir:
            every_seconds = settings.backup_hours * _HOUR_SECONDS
            backups = Backups(
                Path(settings.backup_dir), every_seconds, settings.backup_keep, in_a_process(settings), time.time
            )
            metrics.count_backups(lambda: backups.newest, every_seconds)
            task = asyncio.create_task(backups.back_up_regularly(), name="backups")
            self._parts.push_async_callback(_end, task)

    async def _open_store(self, bus: LocalBus, metrics: Metrics) -> Store:
        """Start the store, which tells the bus, and other relays where it is shared, and counts what it commits."""
        shared = None
        if is_shared(parse_url(self.settings.database)):
            shared = SharedBus(bus, self.settings.database, structlog.get_logger("bus"))
        publish = shared.publish if shared else bus.publish

        def tell(notices: Sequence[Notice], before: int) -> None:
            metrics.noted(notices)
            publish(notices, before)

        store = Store(self.settings.database, tell, metrics.committed)
        await store.start()
        self._parts.push_async_callback(store.stop)
        if shared:
            await shared.start(store)
            self._parts.push_async_callback(shared.stop)
        return store

    async def _count(self, metrics: Metrics, store: Store, listener: socket.socket | None) -> None:
        """Measure the event loop, and serve the counts if somebody asked for them."""
        lag = asyncio.create_task(metrics.watch_loop(), name="watch-loop")
        self._parts.push_async_callback(_end, lag)
        if listener is not None:
            page = ApiServer(make_metrics_page(metrics, store), None)
            await page.start(listener)
            self._parts.push_async_callback(page.stop)


async def _keep_authority(authority: CertificateAuthority, tls: ServerTls, gateway: Gateway) -> None:
    """Renew the server's certificate in time, and take up changes of the CA while serving."""
    failed = ""
    while True:
        await asyncio.sleep(AUTHORITY_CHECK_SECONDS)
        try:
            if authority.refresh():
                tls.change_authority()
                gateway.ask_to_renew()
                _log.info("certificate authority changed", generations=[one.number for one in authority.generations])
            elif tls.renew_if_due():
                _log.info("server certificate renewed")
            failed = ""
        except (OSError, AuthorityDamaged) as error:
            # The same again every two seconds would bury the rest of the log.
            if str(error) != failed:
                _log.error("certificates not brought up to date; what was in force stays", reason=str(error))
            failed = str(error)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(address: str, setting: str) -> socket.socket:
    host, port = parse_listen(address)
    try:
        # An empty host means every address, of both families where the kernel has both.
        both = not host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if ":" in host or both else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        raise ListenFailed(address, setting, error.strerror or str(error)) from error
