"""
The link: keeps one connection to the relay for as long as the agent runs, and sees to it that there is a certificate.

Reconnects with full jitter over the window the relay's welcome names, so that a lone agent is back at once and a
fleet does not stampede. Local work goes on while the relay is away. Fetches wait for the next connection; other
messages given meanwhile are dropped, because the next hello settles everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from fairlead_agent import __version__
from fairlead_agent.approach import Approach
from fairlead_agent.connection import Connection
from fairlead_agent.dialling import Dialler
from fairlead_agent.enrolment import enrol, read_token
from fairlead_agent.errors import (
    ApprovalPending,
    ConnectFailed,
    ConnectionLost,
    EnrolmentRefused,
    IdentityInvalid,
    KubeError,
)
from fairlead_agent.exchange import JobDesk, Sink, StateDesk
from fairlead_agent.identity_store import IdentityStore, client_context
from fairlead_agent.logs import Logger
from fairlead_agent.rejoin import rejoin
from fairlead_agent.renewal import Renewal
from fairlead_agent.settings import Settings
from fairlead_agent.transport_choice import TransportChoice
from fairlead_shared.backoff import full_jitter
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import (
    OLDEST_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    CertificateDue,
    CertificateIssued,
    DriftAck,
    GoAway,
    Hello,
    Message,
    Welcome,
)
from fairlead_shared.identity import CLOCK_SKEW_SECONDS
from fairlead_shared.session import Closed

LONE_WINDOW_SECONDS = 1.0
"""Upper bound of the first wait until a welcome sizes it to the fleet."""
LONGEST_WAIT_SECONDS = 30.0
"""Upper bound of any wait, unless the fleet's window is longer: a relay away for an hour is found within it."""
TOKEN_POLL_SECONDS = 1.0
"""How often to look for a new token after one was refused."""


APPROVAL_POLL_SECONDS = 5.0
"""How often to ask again while a person has yet to approve this agent: cheap, and over within seconds of the yes."""

_NOT_ALLOWED = {ErrorCode.UNAUTHORIZED, ErrorCode.REVOKED, ErrorCode.CERTIFICATE_EXPIRED}


class Link:
    """
    The agent's one link.

    Args:
        settings: Address, token file, replica name.
        identities: The stored identity.
        drift: Who tells of drift.
        kubernetes_version: The API server's, for the hello; empty if unknown.
        logger: Bound to nothing yet.
        clock: Seconds since the epoch.
        leading: Returns once this replica may speak for the agent; asked before each connection.
        welcomed: Called for each connection on which the relay said welcome.
    """

    def __init__(
        self,
        settings: Settings,
        identities: IdentityStore,
        drift: StateDesk,
        kubernetes_version: str,
        logger: Logger,
        clock: Callable[[], float] = time.time,
        leading: Callable[[], Awaitable[None]] | None = None,
        welcomed: Callable[[], None] = lambda: None,
    ) -> None:
        self._say_welcomed = welcomed
        self._leading = leading
        self._settings = settings
        self._identities = identities
        self._drift = drift
        self._kubernetes_version = kubernetes_version
        self._logger = logger
        self._monotonic = time.monotonic
        self._random = random.SystemRandom().random
        self._approach = Approach(Dialler.of(settings), TransportChoice(self._random), self._monotonic)
        self._connection: Connection | None = None
        self._connected = asyncio.Event()
        self._welcomed = False
        """Whether the present connection got as far as a welcome."""
        self._window_seconds = LONE_WINDOW_SECONDS
        self._pause_seconds = 0.0
        self._clock = clock
        self._renewal = Renewal(identities, self.send, logger, clock, self._random)
        self._refused = False
        """Whether the relay did not take the certificate last time."""
        self._tried_token = b""
        """The token that was refused while there is a certificate."""
        self.state = "starting"
        """One phrase for people: what the link does now."""

    @property
    def is_connected(self) -> bool:
        """Whether the relay said welcome on the present connection."""
        return self._connected.is_set()

    async def run(self, desk: JobDesk) -> None:
        """
        Keep the connection; ends only by cancellation or failure.

        Raises: EnrolmentRefused: there is no certificate, and the token was refused and not replaced in time.
        """
        failures = 0
        async with asyncio.TaskGroup() as group:
            group.create_task(self._renewal.run(), name="link/renewal")
            while True:
                self._welcomed = False
                try:
                    if self._leading is not None:
                        await self._leading()
                    await self._see_to_certificate()
                    closed = await self._serve(desk)
                except (ConnectFailed, KubeError, IdentityInvalid) as error:
                    self.state = f"cannot reach the relay: {error}"
                    if isinstance(error, ConnectFailed):
                        self._pause_seconds = error.retry_after_seconds
                    self._logger.warning("link.failed", error=str(error), failures=failures + 1)
                    self._refused = isinstance(error, ConnectFailed) and error.hop in ("TLS", "authorization")
                except ApprovalPending as error:
                    if self.state != str(error):
                        self._logger.warning("enrolment.waits_for_approval", reason=str(error))
                    self.state = str(error)
                    self._pause_seconds = APPROVAL_POLL_SECONDS
                    failures = 0
                except EnrolmentRefused:
                    raise
                except Exception:  # task boundary: a defect, or a full disk, costs this connection and never the agent
                    self.state = "a defect in the agent ended the connection; its log says more"
                    self._logger.exception("link.defect")
                else:
                    self.state = f"disconnected: {closed.reason}"
                    self._logger.warning("link.closed", code=closed.code, reason=closed.reason, by_relay=closed.by_peer)
                # A relay that says welcome is there: over a poor network the next try must not wait ever longer.
                failures = 1 if self._welcomed else failures + 1
                await asyncio.sleep(self._wait_seconds(failures))

    # The courier's side, for jobs.

    def send(self, message: Message) -> None:
        """Queue a message; dropped when there is no connection."""
        if self._connection is not None:
            self._connection.send(message)

    def start_stream(self, job_id: str, acknowledged_seq: int) -> None:
        """Begin to send a job's events after that number."""
        if self._connection is not None:
            self._connection.start_stream(job_id, acknowledged_seq)

    def end_stream(self, job_id: str) -> None:
        """Forget a job's stream."""
        if self._connection is not None:
            self._connection.end_stream(job_id)

    def events_ready(self, job_id: str, *, at_once: bool = False) -> None:
        """Say that a job has events to send."""
        if self._connection is not None:
            self._connection.events_ready(job_id, at_once=at_once)

    async def fetch(self, sha256: str, sink: Sink) -> None:
        """Fetch content, across as many connections as it takes. Raises: BundleUnavailable."""
        while True:
            await self._connected.wait()
            connection = self._connection
            with contextlib.suppress(ConnectionLost):
                if connection is not None:
                    await connection.fetch(sha256, sink)
                    return
            if self._connection is connection:
                # It has left and not said so yet. Without this the loop would come round without a pause, for ever.
                self._connected.clear()

    # The connection's side.

    def opened(self, welcome: Welcome) -> None:
        """Take the relay's welcome."""
        self._window_seconds = welcome.reconnect_window_seconds
        self._welcomed = True
        self._say_welcomed()
        self._connected.set()
        self.state = "connected"
        self._logger.info(
            "link.open",
            session=welcome.session_id,
            relay_version=welcome.relay_version,
            transport=None if self._connection is None else self._connection.transport,
        )
        self._refused = False
        if welcome.at is not None:
            self._compare_clocks(welcome.at)
        self._renewal.wake()
        self._drift.opened(welcome, self.send)

    def closed(self) -> None:
        """Take note that nothing more goes out on this connection."""
        self._connected.clear()
        self._drift.closed()

    def go_away(self, order: GoAway) -> None:
        """Leave this connection and come back after the time the relay asked for."""
        self._pause_seconds = order.retry_after_seconds
        self._logger.info("link.go_away", reason=order.reason, retry_after_seconds=order.retry_after_seconds)
        if self._connection is not None:
            self._connection.leave(f"the relay asked to reconnect: {order.reason}")

    def certificate_issued(self, issued: CertificateIssued) -> None:
        """Hand a renewed certificate on."""
        self._renewal.take(issued)

    def certificate_due(self, due: CertificateDue) -> None:
        """Renew soon."""
        self._renewal.ask_within(due)

    def drift_acknowledged(self, ack: DriftAck) -> None:
        """Hand on what the relay has stored."""
        self._drift.acknowledged(ack)

    def not_understood(self, kind: str) -> None:
        """Hand on what the relay does not know."""
        self._drift.not_understood(kind)

    # Inside.

    async def _see_to_certificate(self) -> None:
        """
        Enrol without a certificate; rejoin, or enrol anew by a token that is new, with one that ended or is refused.

        Raises: EnrolmentRefused: there never was a certificate, and the token was not replaced in time.
            ApprovalPending, ConnectFailed: try again later.
        """
        held = self._identities.current.certificate
        if held is None:
            await self._enrol_for_the_first_time()
            return
        if self._renewal.has_valid_certificate and not self._refused:
            return
        self.state = "rejoining"
        self._logger.warning("certificate.lapsed", ends=held.leaf.not_valid_after_utc.isoformat())
        try:
            await self._rejoin()
        except EnrolmentRefused as error:
            if not await self._enrol_by_new_token():
                raise ConnectFailed("authorization", self._approach.address, f"{error.code}: {error.reason}") from error
        self._refused = False

    async def _enrol_for_the_first_time(self) -> None:
        while self._identities.current.certificate is None:
            self.state = "enrolling"
            tried = _content_of(self._settings.enrolment_token_file)
            try:
                await self._enrol()
            except EnrolmentRefused as error:
                self.state = str(error)
                self._logger.warning("enrolment.refused", code=error.code, error=str(error))
                await self._wait_for_another_token(tried, error)

    async def _enrol_by_new_token(self) -> bool:
        """Enrol anew, if there is a token that was not refused before; returns whether that went well."""
        token = _content_of(self._settings.enrolment_token_file)
        if not token or token == self._tried_token:
            return False
        try:
            await self._enrol()
        except EnrolmentRefused as error:
            self._tried_token = token
            self._logger.warning("enrolment.refused", code=error.code, error=str(error))
            return False
        return True

    async def _enrol(self) -> None:
        token = read_token(self._settings.enrolment_token_file)
        answer = await enrol(self._approach, token, await self._identities.prepare_enrolment())
        identity = await self._identities.save_enrolled(answer.certificate_pem, answer.root_pem, answer.relay_signer)
        if identity.certificate is not None:
            self._logger.info("enrolment.done", agent=str(identity.certificate.agent))

    async def _rejoin(self) -> None:
        done = await rejoin(self._approach, self._identities.current)
        self._compare_clocks(done.relay_clock)
        await self._identities.save_renewed(done.key, done.issued.certificate_pem, done.issued.root_pem)
        self._logger.info("certificate.rejoined")

    def _compare_clocks(self, relay_clock: float) -> None:
        ahead = self._clock() - relay_clock
        if abs(ahead) > CLOCK_SKEW_SECONDS:
            word = "ahead of" if ahead > 0 else "behind"
            reason = f"this machine's clock is {abs(ahead):.0f} s {word} the relay's; set it, or certificates will fail"
            self._logger.warning("clock.skewed", reason=reason, seconds=round(ahead))

    async def _wait_for_another_token(self, tried: bytes, refused: EnrolmentRefused) -> None:
        """Wait until the token's file holds another; a refused token never becomes good, and asking again is noise."""
        ends = self._monotonic() + self._settings.token_hold_seconds
        while _content_of(self._settings.enrolment_token_file) == tried:
            if self._monotonic() >= ends:
                raise refused
            await asyncio.sleep(TOKEN_POLL_SECONDS)

    async def _serve(self, desk: JobDesk) -> Closed:
        """Open one connection and drive it to its end."""
        identity = self._identities.current
        if identity.certificate is None:
            raise IdentityInvalid("there is no certificate")
        self.state = "connecting"
        channel = await self._approach.open(client_context(identity.certificate.root_pem, identity))
        hello = Hello(
            versions=(OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION),
            agent_version=__version__,
            kubernetes_version=self._kubernetes_version,
            replica=self._settings.replica,
            sealing_key=identity.sealing_public,
            relay_signer=identity.relay_signer_public,
            jobs=desk.hello_jobs(),
        )
        connection = self._connection = Connection(channel, hello, desk, self, self._monotonic, self._logger)
        opened_at = self._monotonic()
        back = None
        if (seconds := self._approach.seconds_left(channel)) is not None:
            back = asyncio.get_running_loop().call_later(seconds, connection.leave, "to try a websocket again")
        try:
            closed = await connection.run()
        finally:
            self._connection = None
            if back is not None:
                back.cancel()
        was_cut = connection.was_cut or (closed.code is ErrorCode.SILENCE and not closed.by_peer)
        if self._welcomed:
            self._approach.ended(channel, self._monotonic() - opened_at, was_cut=was_cut)
        elif was_cut:
            self._approach.came_to_nothing(channel)
        if not self._welcomed:
            hop = "authorization" if closed.code in _NOT_ALLOWED else "protocol"
            raise ConnectFailed(hop, self._approach.address, f"{closed.code}: {closed.reason}")
        return closed

    def _wait_seconds(self, failures: int) -> float:
        window = self._window_seconds
        cap = max(window, LONGEST_WAIT_SECONDS)
        wait = full_jitter(failures, base_seconds=window, cap_seconds=cap, random_unit=self._random())
        pause, self._pause_seconds = self._pause_seconds, 0.0
        return pause + wait


def _content_of(path: Path | None) -> bytes:
    """Return a file's bytes, empty if there is none: only to see whether it changed."""
    try:
        return b"" if path is None else path.read_bytes()
    except OSError:
        return b""
