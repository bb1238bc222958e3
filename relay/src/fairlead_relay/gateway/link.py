"""
One agent's connection: what its messages mean for the store and the dispatcher, and back.

Everything is handled in the order it arrived. Progress is stored in batches and acknowledged only once it is committed.
A failure here closes this connection and nothing else: what was not acknowledged is sent again after the reconnect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection

from fairlead_relay import __version__
from fairlead_relay.dispatch import Dispatcher
from fairlead_relay.errors import (
    AgentRefused,
    SessionReplaced,
    StoreError,
)
from fairlead_relay.gateway.bundle_sender import BundleSender
from fairlead_relay.gateway.channel import Channel
from fairlead_relay.gateway.credentials import SOON_SECONDS, Credentials, Identities
from fairlead_relay.gateway.drift_reports import DriftReports
from fairlead_relay.gateway.enrolment import is_sealing_key
from fairlead_relay.gateway.wire import Monotonic, Wire
from fairlead_relay.pki.authority import AgentCertificate
from fairlead_relay.store import Store
from fairlead_relay.store.blobs import Blobs
from fairlead_relay.store.bundles import serves_cluster
from fairlead_shared.errors import ErrorCode, QueueFull, SessionMisuse
from fairlead_shared.frames import (
    DriftReport,
    GoAway,
    Heartbeat,
    Hello,
    JobAccept,
    JobCancel,
    JobOffer,
    JobRefuse,
    Message,
    Progress,
    Welcome,
)
from fairlead_shared.progress import ResultEvent
from fairlead_shared.session import Event, Phase, Received, Session, SessionLimits, Side
from fairlead_shared.transfers import TransferCredit, TransferWanted

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LinkPorts:
    """What every connection works with."""

    store: Store
    blobs: Blobs
    dispatcher: Dispatcher
    identities: Identities
    monotonic: Monotonic
    store_epoch: str
    heartbeat_seconds: float
    on_refused: Callable[[str], None]
    """Called with a short reason, one of a few, for each connection that is not served."""


class Link:
    """
    Serves one connection on the agent port.

    Args:
        channel: The accepted connection.
        certificate: Its client certificate, verified by TLS; None without one.
        ports: What every connection works with.
        reconnect_window_seconds: How long the agent may spread its reconnects, sized to the fleet.

    """

    def __init__(
        self,
        channel: Channel,
        certificate: AgentCertificate | None,
        ports: LinkPorts,
        reconnect_window_seconds: Callable[[], float],
    ) -> None:
        self._session_id = ""
        self._ports = ports
        self._reconnect_window_seconds = reconnect_window_seconds
        limits = SessionLimits(heartbeat_seconds=ports.heartbeat_seconds)
        self._session = Session(Side.RELAY, ports.monotonic(), limits)
        self._wire = Wire(channel, self._session, ports.monotonic)
        self._senders: dict[int, BundleSender] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._drifts: DriftReports | None = None
        self._identity = None if certificate is None else certificate.identity
        self._transport = channel.transport
        self._credentials = Credentials(certificate, ports.identities, self._send, self.close)

    @property
    def _log(self) -> structlog.typing.FilteringBoundLogger:
        # Bound when it is used: most connections say two lines in hours.
        bound = {"agent": str(self._identity) if self._identity else None, "transport": self._transport}
        if self._session_id:
            bound["session"] = self._session_id
        logger: structlog.typing.FilteringBoundLogger = _log.bind(**bound)
        return logger

    @property
    def _is_open(self) -> bool:
        return self._session.phase is Phase.OPEN

    async def run(self) -> None:
        """Serve until the connection ends."""
        self._credentials.watch()
        try:
            closed = await self._wire.run(self._consume)
        finally:
            self._credentials.forget()
            for task in self._sending:
                task.cancel()
            if self._drifts is not None:
                self._drifts.stop()
            if self._session_id:
                await self._disconnect()
        if self._session_id:
            self._log.info("agent disconnected", code=closed.code, reason=closed.reason, by_peer=closed.by_peer)

    def go_away(self, reason: str, retry_after_seconds: float) -> None:
        """Tell the agent that this relay drains: no more offers come here."""
        if self._is_open:
            self._ports.dispatcher.stop_offers(self._session_id)
            self._send(GoAway(reason=reason, retry_after_seconds=retry_after_seconds))

    def ask_to_renew(self, within_seconds: float) -> None:
        """Have the agent renew soon, unless its last certificate is of the CA in force already."""
        if self._is_open:
            self._credentials.ask_to_renew(within_seconds)

    async def _disconnect(self) -> None:
        try:
            await self._ports.dispatcher.disconnect(self._session_id)
        except StoreError as error:
            # Its leases run out, or the agent's next hello settles its jobs.
            self._log.warning("lost connection not noted", reason=error.reason)

    # What the dispatcher asks for: fairlead_relay.dispatch.AgentLink.

    def offer(self, message: JobOffer) -> None:
        """Queue an offer. Raises: QueueFull: too much waits to be written."""
        if self._is_open:
            self._session.expect_stream(message.job_id, message.acknowledged_seq)
            self._send(message)
            self._log.info("job offered", job=message.job_id, job_kind=message.job_kind, attempt=message.attempt)

    def cancel(self, message: JobCancel) -> None:
        """Queue a cancel. Raises: QueueFull: too much waits to be written."""
        self._send_if_open(message)

    def close(self, reason: str, code: ErrorCode = ErrorCode.OVERLOADED) -> None:
        """Tell the agent why and end the connection; it may come back. Idempotent."""
        self._session.close(code, reason)
        self._wire.wake()

    # What the agent says.

    async def _consume(self, batch: list[Event]) -> None:
        try:
            await self._on_batch(batch)
        except SessionReplaced:
            self.close("a newer connection of the same agent took over")
        except StoreError as error:
            self._log.warning("connection closed: the store does not answer", reason=error.reason)
            self.close("the relay's store does not answer now", ErrorCode.OVERLOADED)
        except QueueFull as error:
            self.close(error.reason, ErrorCode.OVERLOADED)
        except Exception as error:  # noqa: BLE001  (the edge of one connection: a defect must not end the others)
            if isinstance(error, SessionMisuse) and self._session.phase is Phase.CLOSED:
                # It ended while an answer was prepared; what was not acknowledged comes again.
                return
            self._log.exception("connection failed")
            self.close("the relay failed; its log has the reason", ErrorCode.INTERNAL)

    async def _on_batch(self, batch: list[Event]) -> None:
        progress: list[Progress] = []
        for event in batch:
            if isinstance(event, Received) and isinstance(event.message, Progress):
                progress.append(event.message)
                continue
            # What was reported before this counts before it.
            await self._on_progress(progress)
            progress = []
            await self._on_event(event)
        await self._on_progress(progress)

    async def _on_event(self, event: Event) -> None:
        match event:
            case Received(message):
                await self._on_message(message)
            case TransferWanted():
                await self._on_transfer_wanted(event)
            case TransferCredit(transfer) if transfer in self._senders:
                self._senders[transfer].credit_arrived()
            case _:
                # Opened and Closed are this side's own doing; run() looks at the latter.
                pass

    async def _on_message(self, message: Message) -> None:
        match message:
            case Hello():
                await self._on_agent_hello(message)
            case Heartbeat():
                self._send(await self._ports.dispatcher.heartbeat(self._session_id, message))
            case JobAccept():
                if not await self._ports.dispatcher.accept(self._session_id, message):
                    self._log.info("late answer to an offer ignored", job=message.job_id, token=message.token)
            case JobRefuse():
                self._session.end_stream(message.job_id)
                await self._ports.dispatcher.refuse(self._session_id, message)
                self._log.info("job refused", job=message.job_id, code=message.code, temporary=message.temporary)
            case DriftReport():
                await self._on_drift_report(message)
            case _ if await self._credentials.take(message):
                pass
            case _:
                self._log.warning("message without a meaning here", kind=message.kind)

    async def _on_agent_hello(self, hello: Hello) -> None:
        presented = self._credentials.present()
        if self._identity is None or presented is None:
            return
        if not is_sealing_key(hello.sealing_key):
            self.close("the sealing key is no base64 of a raw X25519 public key", ErrorCode.MALFORMED)
            return
        try:
            connected = await self._ports.dispatcher.connect(self._identity, hello, self, presented)
        except AgentRefused as error:
            self._ports.on_refused(f"agent_{error.code}")
            self._log.warning("agent refused", code=error.code, reason=error.reason)
            self.close(error.reason, error.code)
            return
        self._session_id = connected.session_id
        welcome = Welcome(
            version=self._session.version,
            session_id=connected.session_id,
            relay_version=__version__,
            store_epoch=self._ports.store_epoch,
            heartbeat_seconds=self._ports.heartbeat_seconds,
            reconnect_window_seconds=self._reconnect_window_seconds(),
            at=self._ports.identities.clock(),
            jobs=connected.verdicts,
        )
        self._send(welcome)
        self._log.info("agent connected", version=hello.agent_version, replica=hello.replica, jobs=len(hello.jobs))
        self._credentials.ask_to_renew(SOON_SECONDS)
        self._ports.dispatcher.start_offers(connected.session_id)

    async def _on_progress(self, messages: list[Progress]) -> None:
        if not messages:
            return
        stored = await self._ports.dispatcher.record(self._session_id, messages)
        last = {message.job_id: message for message in messages}
        for job_id, message in last.items():
            if job_id in stored:
                self._session.acknowledge(job_id, min(stored[job_id], message.seq))
            if job_id not in stored or isinstance(message.event, ResultEvent):
                # Ended, or no longer this agent's: its next heartbeat learns that from the leases that are not renewed.
                self._session.end_stream(job_id)
            if job_id in stored and isinstance(message.event, ResultEvent):
                self._log.info("job ended", job=job_id, outcome=message.event.outcome)

    async def _on_drift_report(self, report: DriftReport) -> None:
        if self._drifts is None:
            ports = self._ports
            self._drifts = DriftReports(
                self._session_id, ports.store, ports.identities.clock, self._send_if_open, self.close
            )
        await self._drifts.take(report)

    async def _on_transfer_wanted(self, wanted: TransferWanted) -> None:
        identity = self._identity
        if identity is None:
            return

        def read(connection: Connection) -> bool:
            return serves_cluster(connection, identity.organization, identity.cluster, wanted.sha256)

        if not await self._ports.store.read(read):
            reason = "no unfinished job of this cluster refers to it"
            self._session.refuse_bulk(wanted.transfer, ErrorCode.BUNDLE_UNAVAILABLE, reason)
            return
        sender = BundleSender(self._session, self._wire.wake, wanted.transfer)
        self._senders[wanted.transfer] = sender
        task = asyncio.create_task(
            sender.send(self._ports.blobs, wanted.sha256, wanted.offset), name=f"bundle-{wanted.sha256[:12]}"
        )
        self._sending.add(task)
        task.add_done_callback(lambda done: self._on_sent(done, wanted.transfer))

    def _on_sent(self, task: asyncio.Task[None], transfer: int) -> None:
        self._sending.discard(task)
        self._senders.pop(transfer, None)
        if not task.cancelled() and (error := task.exception()) is not None and self._is_open:
            self._log.error("sending a bundle failed", exc_info=error)
            self._session.refuse_bulk(transfer, ErrorCode.INTERNAL, "the relay failed; its log has the reason")
            self._wire.wake()

    def _send_if_open(self, message: Message) -> None:
        if self._is_open:
            self._send(message)

    def _send(self, message: Message) -> None:
        self._session.send(message)
        self._wire.wake()
