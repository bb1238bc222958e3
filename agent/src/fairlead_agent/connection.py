"""
One connection to the relay, from hello to close: the shell around the sans-I/O session.

Three tasks: one reads, one writes with back-pressure, one keeps the session's time. Whatever ends first ends the
connection. It must not reconnect and must not decide on jobs: the first is the link's, the second the runner's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fairlead_agent.channel import LONGEST_CLOSE_SECONDS, Channel
from fairlead_agent.errors import BundleUnavailable, ChannelClosed, ConnectionLost
from fairlead_agent.exchange import JobDesk, Sink
from fairlead_agent.logs import Logger
from fairlead_shared.errors import ErrorCode
from fairlead_shared.frames import (
    CertificateDue,
    CertificateIssued,
    DriftAck,
    GoAway,
    Heartbeat,
    HeartbeatAck,
    Hello,
    JobCancel,
    JobOffer,
    Message,
    Welcome,
)
from fairlead_shared.session import (
    Acknowledged,
    Closed,
    Event,
    HeartbeatDue,
    NotUnderstood,
    Opened,
    Phase,
    Received,
    Session,
    Side,
)
from fairlead_shared.transfers import ChunkReceived, TransferEnded

GATHER_SECONDS = 0.04
"""
Least time between two sendings of progress: what comes together costs the relay one commit, and one acknowledgement.

Well below the 100 ms within which an event is to be seen, its commit included; what comes after a pause goes at once.
"""


class LinkEvents(Protocol):
    """What a connection tells its link."""

    def opened(self, welcome: Welcome) -> None:
        """The relay said welcome."""

    def closed(self) -> None:
        """The session is over; its transport may take a moment longer."""

    def go_away(self, order: GoAway) -> None:
        """The relay asks to reconnect."""

    def certificate_issued(self, issued: CertificateIssued) -> None:
        """The relay answered a renewal."""

    def certificate_due(self, due: CertificateDue) -> None:
        """The relay asks to renew soon."""

    def drift_acknowledged(self, ack: DriftAck) -> None:
        """The relay has stored a report of drift."""

    def not_understood(self, kind: str) -> None:
        """The relay does not know a kind of message that was sent."""


@dataclass(slots=True)
class _Fetch:
    sink: Sink
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Connection:
    """
    One connection.

    Args:
        channel: Just opened.
        hello: The first message.
        desk: Who decides on jobs.
        link: Who hears of the rest.
        monotonic: Seconds, the session's clock.
        logger: Bound to the connection's address.
    """

    def __init__(
        self,
        channel: Channel,
        hello: Hello,
        desk: JobDesk,
        link: LinkEvents,
        monotonic: Callable[[], float],
        logger: Logger,
    ) -> None:
        self._channel = channel
        self._desk = desk
        self._link = link
        self._monotonic = monotonic
        self._logger = logger
        self._session = Session(Side.AGENT, monotonic())
        self._session.send(hello)
        self._to_write = asyncio.Event()
        self._to_write.set()
        self._retime = asyncio.Event()
        self.was_cut = False
        """Whether the transport ended without a word of the relay: something on the way may have cut it."""
        self._dirty: set[str] = set()
        """Jobs that may have events to send."""
        self._held_back: set[str] = set()
        """Those of which a full window held events back."""
        self._gathering: asyncio.TimerHandle | None = None
        """Set while progress waits for more to come."""
        self._heartbeats: dict[int, frozenset[str]] = {}
        """Heartbeat number → jobs whose leases it asked to renew."""
        self._fetches: dict[int, _Fetch] = {}

    @property
    def transport(self) -> str:
        """The kind of the transport, for people."""
        return self._channel.transport

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent: after the welcome and before the close."""
        return self._session.phase is Phase.OPEN

    async def run(self) -> Closed:
        """Drive the connection until it ends; returns why. Cancelling it closes the connection."""
        tasks = [
            asyncio.create_task(self._read(), name="link/read"),
            asyncio.create_task(self._write(), name="link/write"),
            asyncio.create_task(self._keep_time(), name="link/time"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # What the session has to say last, for example why it closes.
            await self._flush_last_words()
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            self._end_gathering()
            await self._end(tasks)
            self._session.connection_lost("the connection was closed")
            self._link.closed()
            self._fail_fetches()
            await self._channel.close()
        return self._session.close_reason or Closed(ErrorCode.SILENCE, "the connection was closed", by_peer=True)

    async def _end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Wait for cancelled tasks, and not for ever: the next connection waits for this one's end."""
        try:
            async with asyncio.timeout(LONGEST_CLOSE_SECONDS):
                await asyncio.gather(*tasks, return_exceptions=True)
        except TimeoutError:
            slow = [task.get_name() for task in tasks if not task.done()]
            self._logger.warning("link.tasks_did_not_end", tasks=slow)

    def send(self, message: Message) -> bool:
        """Queue a message; returns whether the session was open to take it."""
        if not self.is_open:
            return False
        self._session.send(message)
        self._to_write.set()
        return True

    def start_stream(self, job_id: str, acknowledged_seq: int) -> None:
        """Begin to send a job's events after that number; without effect before the welcome."""
        if self.is_open:
            self._session.start_stream(job_id, acknowledged_seq)
            self.events_ready(job_id)

    def end_stream(self, job_id: str) -> None:
        """Forget a job's stream."""
        self._session.end_stream(job_id)
        self._dirty.discard(job_id)
        self._held_back.discard(job_id)

    def events_ready(self, job_id: str, *, at_once: bool = False) -> None:
        """Send the job's events together with those of the next moment; `at_once`: with those so far."""
        self._dirty.add(job_id)
        if at_once:
            self._end_gathering()
        if self._gathering is None:
            self._to_write.set()

    def leave(self, reason: str) -> None:
        """End the connection from this side; what is not yet written is settled by the next hello."""
        self._session.connection_lost(reason)
        self._to_write.set()

    async def fetch(self, sha256: str, sink: Sink) -> None:
        """Fetch content into a sink. Raises: ConnectionLost, BundleUnavailable."""
        if not self.is_open:
            raise ConnectionLost
        transfer = self._session.fetch(sha256, sink.size)
        self._to_write.set()
        fetch = self._fetches[transfer] = _Fetch(sink)
        try:
            await fetch.done
        finally:
            self._fetches.pop(transfer, None)
            self._session.abandon(transfer)

    async def _read(self) -> None:
        try:
            while self._session.phase is not Phase.CLOSED:
                self._session.receive_frame(await self._channel.receive(), self._monotonic())
                self._take_events()
        except ChannelClosed as closed:
            self.was_cut = not closed.by_relay
            self._session.connection_lost(closed.reason)

    async def _write(self) -> None:
        while self._session.phase is not Phase.CLOSED:
            await self._to_write.wait()
            self._to_write.clear()
            try:
                await self._write_all()
            except ChannelClosed:
                # The reader sees the same and knows more of the reason.
                await asyncio.Event().wait()

    async def _write_all(self) -> None:
        self._pump()
        while frames := self._session.data_to_send():
            for frame in frames:
                await self._channel.send(frame)
            self._pump()

    async def _flush_last_words(self) -> None:
        with contextlib.suppress(ChannelClosed, TimeoutError):
            async with asyncio.timeout(1):
                for frame in self._session.data_to_send():
                    await self._channel.send(frame)

    async def _keep_time(self) -> None:
        while (deadline := self._session.next_deadline()) is not None:
            self._retime.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, deadline - self._monotonic())):
                    await self._retime.wait()
                    continue
            self._session.receive_timeout(self._monotonic())
            self._take_events()

    def _pump(self) -> None:
        """Move events from the journals into the session, as many as its windows take, unless more are waited for."""
        if self._gathering is not None:
            return
        sent = False
        for job_id in self._dirty:
            while self._session.window(job_id) > 0:
                progress = self._desk.event(job_id, self._session.next_seq(job_id))
                if progress is None:
                    break
                self._session.send_progress(progress)
                sent = True
            else:
                self._held_back.add(job_id)
        self._dirty.clear()
        if sent:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self._to_write.set()

    def _end_gathering(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None

    def _take_events(self) -> None:
        for event in self._session.events():
            self._take(event)
        # Anything received may have queued an answer, moved a window or ended the session.
        self._to_write.set()

    def _take(self, event: Event) -> None:
        match event:
            case Received(message):
                self._take_message(message)
            case Opened(welcome):
                self._desk.settle(welcome)
                self._dirty.update(verdict.job_id for verdict in welcome.jobs)
                self._link.opened(welcome)
                self._retime.set()
            case HeartbeatDue():
                self._send_heartbeat()
            case Acknowledged(job_id, seq):
                self._desk.acknowledge(job_id, seq)
                if job_id in self._held_back:
                    self._held_back.discard(job_id)
                    self.events_ready(job_id, at_once=True)
            case ChunkReceived(transfer, _, payload):
                self._take_chunk(transfer, payload)
            case NotUnderstood(kind):
                self._link.not_understood(kind)
            case TransferEnded(transfer, _, code):
                self._end_fetch(transfer, None if code is None else BundleUnavailable(_why(code), code))
            case _:
                pass

    def _take_message(self, message: Message) -> None:
        match message:
            case JobOffer():
                self._desk.take_offer(message)
            case JobCancel():
                self._desk.cancel(message)
            case HeartbeatAck():
                # A job taken after the heartbeat was sent is not in its answer.
                for job_id in self._heartbeats.pop(message.number, frozenset()) - set(message.renewed):
                    self._desk.lose(job_id)
            case GoAway():
                self._link.go_away(message)
            case CertificateIssued():
                self._link.certificate_issued(message)
            case CertificateDue():
                self._link.certificate_due(message)
            case DriftAck():
                self._link.drift_acknowledged(message)
            case _:
                self._logger.warning("link.unexpected_message", kind=message.kind)

    def _send_heartbeat(self) -> None:
        jobs = self._desk.leases()

        def build(number: int) -> Heartbeat:
            self._heartbeats = {number: frozenset(job.job_id for job in jobs)}
            return Heartbeat(number=number, jobs=jobs)

        self._session.heartbeat(build)

    def _take_chunk(self, transfer: int, payload: bytes) -> None:
        fetch = self._fetches.get(transfer)
        if fetch is None:
            return
        try:
            fetch.sink.write(payload)
        except (OSError, BundleUnavailable) as error:
            self._session.abandon(transfer)
            self._end_fetch(transfer, error)
        else:
            self._session.grant(transfer, len(payload))

    def _end_fetch(self, transfer: int, error: Exception | None) -> None:
        fetch = self._fetches.pop(transfer, None)
        if fetch is None or fetch.done.done():
            return
        if error is None:
            fetch.done.set_result(None)
        else:
            fetch.done.set_exception(error)

    def _fail_fetches(self) -> None:
        for transfer in list(self._fetches):
            self._end_fetch(transfer, ConnectionLost())


def _why(code: ErrorCode) -> str:
    return f"the relay could not deliver the bundle ({code}); deploy again"
